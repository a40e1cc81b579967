"""System checks of the acting floor."""

from __future__ import annotations

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from quantum.checks import OURS


@register(OURS)
def the_exit_brain_has_a_scorer(**_: object) -> list[CheckMessage]:
    if settings.EXIT_BRAIN in ("off", "demo"):
        return []
    from apply.exits import scorers

    try:
        scorers.find(settings.EXIT_BRAIN)
    except scorers.NoSuchScorer as none:
        hint = f"set EXIT_BRAIN to off, to one of {', '.join(scorers.names())}, or to a dotted path"
        return [Error(f"EXIT_BRAIN: {none}", hint=hint, id="apply.E002")]
    return []


@register(OURS)
def a_stop_knows_where_it_is(**_: object) -> list[CheckMessage]:
    """Whoever sets one believes that he has one."""
    if settings.EXIT_BRAIN != "stop" or settings.EXIT_RISK_PCT is not None:
        return []
    hint = "set EXIT_RISK_PCT to the loss, in percent of the entry price, at which everything is to be closed"
    return [Error("EXIT_BRAIN=stop closes nothing without EXIT_RISK_PCT", hint=hint, id="apply.E004")]


@register(OURS)
def apprise_is_there_where_it_is_set(**_: object) -> list[CheckMessage]:
    if not settings.ALERT_APPRISE_SCHEMES:
        return []
    from apply.alerts import by_apprise

    if by_apprise.installed():
        return []
    hint = f"{by_apprise.INSTALL}, or take ALERT_APPRISE_URLS away: the signed webhook needs nothing"
    return [Error("ALERT_APPRISE_URLS: apprise is not installed", hint=hint, id="apply.E003")]
