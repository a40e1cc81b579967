"""Both sides of every symbol as gauges, read when somebody scrapes: p33's snapshots, and the ledger's own rows."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import cast

from django.conf import settings
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from positions.drift import incidents
from positions.models import Balance
from positions.reconcile import reconcile
from quantum import metrics
from quantum.gauges import gauge
from quantum.redis import command_client


def read() -> Iterator[Metric]:
    yield gauge("quantum_incidents", "Incidents that are open", incidents.standing().count())
    with command_client() as client:
        lines = reconcile.stand(client, names=sorted(reconcile.symbols()))
    readable = [line for line in lines.values() if line]
    ages: dict[str, Decimal] = {}
    for line in readable:  # of the symbols that share a label the oldest counts
        label = metrics.symbol_label(line.symbol)
        ages[label] = max(line.age_s, ages.get(label, Decimal(0)))
    yield _family("p33_snapshot_age_seconds", "Since the exchange was asked for what the snapshot says", ages)
    held = dict(Balance.objects.filter(account=settings.ACCOUNT).values_list("symbol", "amount"))
    yield _family("p33_ledger_position_amt", "What the ledger says, signed", _own_label(held))
    seen = {line.symbol: line.exchange for line in readable}
    yield _family("p33_exchange_position_amt", "What the exchange holds, signed", _own_label(seen))


def _own_label(amounts: dict[str, Decimal]) -> dict[str, Decimal]:
    """Amounts of several symbols cannot be added up, so those that share a label are left out."""
    return {symbol: amount for symbol, amount in amounts.items() if metrics.symbol_label(symbol) == symbol}


def _family(name: str, text: str, values: dict[str, Decimal]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["symbol"])
    for symbol, value in values.items():
        family.add_metric([symbol], cast("float", value))  # the page rounds it; we do not
    return family
