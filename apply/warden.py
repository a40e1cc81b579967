"""The role warden: resolver's questions, janitor, the end of halts, alerts, proposals in, the exit brain, the audit
chain's seals. No trade key."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections

from apply.alerts import duties as alerts
from apply.exits import scorers
from apply.exits.apart import Apart
from apply.exits.brain import ExitBrain
from apply.exits.demo import DemoFeed
from apply.exits.prices import Prices
from apply.exits.proposing import to_the_gates
from apply.operators.retry import RetryByRule
from apply.proposals.intake import Intake
from apply.proving.janitor import Janitor
from apply.proving.resolver import Resolver
from apply.trimming import Trimming
from permits.desk import sweep
from permits.state.resuming import EndOfHalt
from quantum import ailing, clock
from quantum.chain.sealer import Sealer
from quantum.exchange import connect
from quantum.exchange.reading import Reader, ReadFailed
from quantum.log import log
from quantum.redis import Client, RedisError, command_client
from quantum.roles import Watch

TURN_S = 1.0


def duties_of(client: Client) -> list[Callable[[], None]]:
    reader = connect.reader()
    duties = [
        Janitor(client=client).tick,
        Resolver(reader=reader, client=client).tick,
        EndOfHalt(client=client).tick,
        sweep.PermitSweep().tick,
        Sealer().tick,
        Trimming().tick,
        *alerts.of(client),
    ]
    if settings.APPLY_RETRIES_MAX:
        duties.append(RetryByRule(client=client).tick)
    if settings.EXIT_BRAIN == "demo":
        duties.append(DemoFeed(client=client).tick)
    elif settings.EXIT_BRAIN != "off":
        duties.append(Apart(exit_brain(client, connect.reader()).tick, name="exit brain").tick)
    return duties


def exit_brain(client: Client, reader: Reader) -> ExitBrain:
    return ExitBrain(
        client=client,
        prices=Prices(reader=reader, interval=settings.EXIT_INTERVAL),
        scorer=scorers.find(settings.EXIT_BRAIN),
        propose=to_the_gates(client),
        risk_pct=settings.EXIT_RISK_PCT,
    )


def run(watch: Watch) -> None:
    intake = Intake(watch)
    intake.begin()
    try:
        _go_round(watch, intake, duties_of(command_client()))
    finally:
        intake.end()


def _go_round(watch: Watch, intake: Intake, duties: list[Callable[[], None]]) -> None:
    while watch.keep():
        if intake.dead:  # a fresh process hears again; this one only looks alive
            raise RuntimeError("a thread of the intake has ended")
        for duty in duties:
            try:
                duty()
            except (RedisError, DatabaseError, ReadFailed) as error:
                # The next turn tries again; nothing here is the only way a plan ends.
                log.warning("warden could not do its round", error=type(error).__name__)
                if isinstance(error, DatabaseError):
                    ailing.note(error)
                close_old_connections()
            if not watch.keep():  # a round of slow duties may outlast the lease
                return
        clock.sleep_s(TURN_S)
