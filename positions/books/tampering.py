"""Whether the ledger's copies in Redis still say what we wrote there. They decide nothing; but other programs read
them, and whoever bends one may bend more."""

from __future__ import annotations

from django.conf import settings
from prometheus_client import Counter

from positions.books import ledger
from positions.models import Balance
from quantum import amounts, audit, metrics
from quantum.log import log
from quantum.redis import Client

TAMPERED = Counter("quantum_ledger_copies_tampered_total", "Copies of the ledger that were bent", ["symbol"])


def mend(client: Client) -> list[str]:
    """Write those anew that are gone, old or bent; tell of the bent ones, and return them.

    Redis is asked first: every copy of ours is then of a version that the database has, or of an older one. An older
    version was overtaken in between, which is nobody's doing.
    """
    rows = Balance.objects.filter(account=settings.ACCOUNT)
    symbols = list(rows.values_list("symbol", flat=True))
    pipeline = client.pipeline(transaction=False)
    for symbol in symbols:
        pipeline.hmget(settings.KEYS.ledger(symbol), "last_known_amt", "version")
    copies = dict(zip(symbols, pipeline.execute(raise_on_error=False), strict=True))
    bent = []
    for balance in rows.filter(symbol__in=symbols):
        copy = copies[balance.symbol]
        said = (
            [(raw or b"").decode(errors="replace") for raw in copy] if isinstance(copy, list) else ["", "?"]
        )
        if said == [amounts.plain(balance.amount), str(balance.version)]:
            continue
        if said[1] and not _is_older(said[1], balance.version):
            bent.append(balance.symbol)
            _tell(balance, said)
        if not isinstance(copy, list):
            client.delete(settings.KEYS.ledger(balance.symbol))
        ledger.project(client, balance.symbol)
    return bent


def _is_older(version: str, than: int) -> bool:
    return version.isascii() and version.isdigit() and len(version) < 10 and int(version) < than


def _tell(balance: Balance, said: list[str]) -> None:
    data = {
        "copy": said[0][:60],
        "copy_version": said[1][:20],
        "amount": amounts.plain(balance.amount),
        "version": str(balance.version),
    }
    TAMPERED.labels(symbol=metrics.symbol_label(balance.symbol)).inc()
    audit.record(kind="ledger_copy_tampered", actor="p33", symbol=balance.symbol, data=data)
    log.error(f"{balance.symbol}: the ledger's copy in Redis was changed by somebody else", **data)
