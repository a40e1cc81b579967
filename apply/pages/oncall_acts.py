"""What somebody on call may do: each act shows before -> after, is bound to what was shown, and calls the function of
its command."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from django import forms as django_forms
from django.conf import settings
from django.core import signing
from django.db import Error as DatabaseError
from msgspec import Struct

from permits.models import Hold, TradingState
from permits.state import freezing, resuming, trading
from permits.state.resuming import Refused
from permits.state.trading import Scope, State, StateChanged
from positions.drift import incidents
from positions.models import Incident
from positions.pages.acts import CHANGED, LATE_KEY, NO_DATABASE
from positions.pages.forms import ActForm
from quantum import amounts, clock, facts, people
from quantum.models import AuditEvent
from quantum.redis import RedisError, command_client

SALT = "apply.pages.oncall"
LIFE_S = 900
"""A page left open for longer is a page that nobody looks at."""
SHOWN_MOST = 5
ENDS = [
    (900, "by itself in 15 min"),
    (3600, "by itself in 1 h"),
    (14_400, "by itself in 4 h"),
    (86_400, "by itself in 1 day"),
]
"""Seconds. The command takes any end."""
ENDING_MEANS = (
    "With an end, trading becomes ACTIVE by itself then, whatever is the matter; unless something halted without "
    "an end meanwhile, which stays."
)

LATE_GATE = (
    "Recorded. Redis could not be told at once; apply tells the gate, within seconds of having read it."
)
SKEW_S = 3600
"""By how much the clocks of two hosts may differ, where the version says already which halt it was."""


class Shown(Struct, frozen=True, kw_only=True):
    """What an act would change, for a person who has not said yes yet."""

    title: str
    before: str
    after: str
    means: tuple[str, ...]
    button: str
    seen: dict[str, Any]
    """What this stands on. It must still be so when the act is done."""
    form: type[ActForm] | None
    """None: nothing for this person to do now; `means` says why."""
    danger: bool = True


class Answer(Struct, frozen=True):
    done: bool
    text: str
    again: bool = False
    """The act's own page has more to say, or to do."""


class Act(Struct, frozen=True):
    needs: tuple[str, ...]
    about: str
    """The rest of its path: what it is about."""
    show: Callable[[str, str], Shown | None]
    """(what it is about, who looks). None: there is nothing to act on, and never was."""
    do: Callable[[Shown, dict[str, Any], str], Answer]


class Gone(Exception):
    """There is nothing to act on any more; the text says why."""


def form_of(name: str, about: str, shown: Shown) -> ActForm | None:
    if shown.form is None:
        return None
    said = [*_stands_on(name, about, shown), shown.before]
    return shown.form(initial={"mark": signing.dumps(said, salt=SALT)})


def act(name: str, about: str, *, sent: Any, by: str) -> Answer:
    """Nothing is done on what is not any more as it was shown."""
    try:
        shown = ACTS[name].show(about, by)
        if shown is None or shown.form is None:
            return Answer(False, CHANGED)
        form = shown.form(sent)
        if not form.is_valid():
            return Answer(False, f"Nothing was changed. {_problems(form)}", again=True)
        *stood_on, before = _read(form.cleaned_data["mark"]) or [None]
        if stood_on != _stands_on(name, about, shown):
            return Answer(False, _changed(before, shown), again=True)
        return ACTS[name].do(shown, form.cleaned_data, by)
    except Gone as gone:
        return Answer(False, f"Nothing was changed: {gone}.")
    except StateChanged:
        return Answer(False, CHANGED, again=True)
    except DatabaseError:
        return Answer(False, NO_DATABASE)


def _stands_on(name: str, about: str, shown: Shown) -> list[Any]:
    return [settings.ACCOUNT, settings.APPLY_MODE, name, about, shown.seen]


def _changed(before: str | None, shown: Shown) -> str:
    """Both, so that nobody has to guess what came between."""
    return f"{CHANGED} It showed: {before}. It is: {shown.before}." if before else CHANGED


def _read(text: str) -> list[Any] | None:
    try:
        said = signing.loads(text, salt=SALT, max_age=LIFE_S)
    except signing.BadSignature:
        return None
    return said if isinstance(said, list) and said else None


def _problems(form: ActForm) -> str:
    return " ".join(f"{name}: {' '.join(map(str, errors))}" for name, errors in form.errors.items())


# ---- the trading state


class HaltForm(ActForm):
    name = "halt"


class EndingHaltForm(HaltForm):
    """Of a halt that may be given an end. It counts from when the button is pressed."""

    ends = django_forms.TypedChoiceField(
        label="Ends",
        choices=[("", "when somebody resumes"), *ENDS],
        required=False,
        coerce=int,
        empty_value=None,
    )
    field_order = ("mark", "ends", "reason")


class AskForm(ActForm):
    name = "ask"


class ConfirmForm(ActForm):
    name = "confirm"
    confirm = django_forms.CharField(max_length=32, label="Account", help_text="Type the account's name.")


def halting(scope: str, _by: str) -> Shown | None:
    if scope not in Scope.values:
        return None
    row, wanted = trading.newest(), Scope(scope)
    if row is not None and not adds(row, wanted):
        raise Gone(f"it is halted for {row.get_scope_display().lower()} already, by {row.by}: {row.reason}")
    if row is not None and row.state == State.HALTED and row.scope != Scope.AUTOMATIC:
        wanted = Scope.EVERYTHING  # a halt only ever adds
    means: tuple[str, ...] = (
        "An order that was intended before may still leave, within its 3 s. Nothing at the exchange is cancelled.",
        "What carries an operator's signed permit still passes: break glass, and closing from reconciliation."
        if wanted == Scope.AUTOMATIC
        else "Nothing passes, break glass neither. To keep that way out, halt automatic plans only.",
    )
    may_end = row is None or row.state != State.HALTED or row.until is not None
    if may_end:
        means = (*means, ENDING_MEANS)
    return Shown(
        title=f"Halt {wanted.label.lower()}",
        before=_stands(row),
        after=f"HALTED for {wanted.label.lower()}, without an end{' unless you choose one' if may_end else ''}",
        means=means,
        button=f"Halt {wanted.label.lower()}",
        seen={"version": row.version if row else 0, "scope": scope},
        form=EndingHaltForm if may_end else HaltForm,
    )


def adds(row: TradingState, wanted: TradingState.Scope) -> bool:
    """Whether a halt without an end would be more than what stands."""
    as_wide = row.state == State.HALTED and row.scope in (wanted, Scope.EVERYTHING)
    return not (as_wide and row.until is None)


def halt(shown: Shown, said: dict[str, Any], by: str) -> Answer:
    before, ends_s = trading.newest(), said.get("ends")
    row = trading.halt(
        cause=trading.PERSON,
        scope=Scope(shown.seen["scope"]),
        by=by,
        reason=said["reason"],
        until=clock.now() + dt.timedelta(seconds=ends_s) if ends_s else None,
    )
    if before is not None and before.version == row.version:
        told = (
            f"It was halted already, as widely and as long: v{row.version} stays, your reason is on record."
        )
    else:
        told = f"{_state(row)}: v{row.version}."
    return Answer(True, _armed(told))


def leaving(_about: str, by: str) -> Shown | None:
    row = trading.newest()
    if row is None:
        raise Gone("no trading state was ever set; the first start writes one")
    if row.state != State.HALTED:
        raise Gone(f"trading is ACTIVE since {facts.age(row.since)}, by {row.by}")
    again = _told_again(row)
    two = settings.APPROVERS_REQUIRED > 1
    asked = list(resuming.requests(row))
    mine_to_confirm = next(
        (each for each in asked if not two or not people.is_same_person(each.actor, by)), None
    )
    form: type[ActForm] | None = ConfirmForm if mine_to_confirm else None if asked else AskForm
    means = [f"Told again by {each.actor}, {facts.age(each.at)}: {each.reason}" for each in again]
    if mine_to_confirm:
        means.append(
            f"Asked by {mine_to_confirm.actor}, {facts.age(mine_to_confirm.at)}: {mine_to_confirm.reason}"
        )
        means.append("Exits leave again at once.")
    elif asked:
        means.append(
            f"You asked {facts.age(asked[0].at)}: another person has to confirm within 15 minutes of it."
        )
    elif two:
        means.append("Nothing changes by asking: another person confirms within 15 minutes.")
    else:
        means.append(
            f"Nothing changes by asking: you confirm on the next page, after {resuming.DELAY_S:.0f} s."
        )
    return Shown(
        title="Resume",
        before=_stands(row),
        after="ACTIVE" if form is ConfirmForm else "ACTIVE, once it is confirmed",
        means=tuple(means),
        button="Resume now" if form is ConfirmForm else "Ask to resume",
        seen={"version": row.version, "again": [each.pk for each in again], "asks": form is AskForm},
        form=form,
        danger=form is ConfirmForm,
    )


def resume(shown: Shown, said: dict[str, Any], by: str) -> Answer:
    if shown.form is AskForm:
        asked = resuming.request(by=by, reason=said["reason"])
        if isinstance(asked, Refused):
            return Answer(False, f"Nothing was changed: {asked.text}.")
        return Answer(True, "Asked. Nothing was changed yet: it is still halted.", again=True)
    row = resuming.confirm(by=by, reason=said["reason"], account=said["confirm"])
    if isinstance(row, Refused):
        return Answer(False, f"Nothing was changed: {row.text}.", again=True)
    return Answer(True, _armed(f"{_state(row)}: v{row.version}."))


def _told_again(row: TradingState) -> list[AuditEvent]:
    """Causes that came while it was halted: who leaves the halt leaves them too."""
    since = row.since - dt.timedelta(seconds=SKEW_S)
    found = AuditEvent.objects.filter(at__gte=since, kind="halt_repeated", data__version=row.version)
    return list(found.order_by("-id")[:SHOWN_MOST])


def _state(row: TradingState | None) -> str:
    if row is None:
        return "HALTED: no trading state was ever set"
    halted = row.state == State.HALTED
    scope = f" for {row.get_scope_display().lower()}" if halted else ""
    until = f" until {row.until:%Y-%m-%d %H:%M:%S} UTC" if halted and row.until else ""
    return f"{row.state}{scope}{until} by {row.by}: {row.reason}"


def _stands(row: TradingState | None) -> str:
    return f"{_state(row)} (v{row.version})" if row else _state(row)


def _armed(told: str) -> str:
    """The database has it: every intent obeys at once. Redis is told now, and by apply every other second: also where
    the database that has just committed cannot be read for that, what was done is not told as undone."""
    try:
        trading.arm(command_client(), actor="oncall")
    except RedisError:
        return f"{told} {LATE_KEY}"
    except (DatabaseError, StateChanged):
        return f"{told} {LATE_GATE}"
    return told


# ---- holds and incidents


class LiftForm(ActForm):
    name = "lift"
    typed_in_live = True


class AckForm(ActForm):
    name = "ack"


def lifting(number: str, _by: str) -> Shown | None:
    hold = Hold.objects.filter(pk=number).first()
    if hold is None:
        return None
    if hold.lifted_at:
        raise Gone(f"hold {hold.pk} was lifted {facts.age(hold.lifted_at)} by {hold.lifted_by}")
    still = list(incidents.standing(hold.symbol))
    means = [
        f"Incident {each.pk} stays open ({_numbers(each)}): the Brain denies exits while they differ."
        for each in still
    ]
    means.append("Exits of this symbol may leave again, if both gates grant them.")
    return Shown(
        title=f"Lift the hold of {hold.symbol}",
        before="; ".join([f"{hold.symbol} frozen by {hold.by}: {hold.reason}", *map(_numbered, still)]),
        after=f"{hold.symbol} free",
        means=tuple(means),
        button=f"Lift hold {hold.pk}",
        seen={"hold": hold.pk, "incidents": [_numbered(each) for each in still]},
        form=LiftForm,
    )


def lift(shown: Shown, said: dict[str, Any], by: str) -> Answer:
    hold = Hold.objects.get(pk=shown.seen["hold"])
    try:
        if not freezing.release(command_client(), hold=hold, by=by, reason=said["reason"]):
            return Answer(False, CHANGED)
    except RedisError:
        return Answer(True, LATE_KEY)
    return Answer(True, f"Hold {hold.pk} of {hold.symbol} is lifted.")


def acknowledging(number: str, _by: str) -> Shown | None:
    found = Incident.objects.filter(pk=number, account=settings.ACCOUNT).first()
    if found is None:
        return None
    if found.state != Incident.State.OPEN:
        raise Gone(f"incident {found.pk} ended")
    if found.acked_at:
        raise Gone(f"incident {found.pk} was taken {facts.age(found.acked_at)} by {found.acked_by}")
    return Shown(
        title=f"Take incident {found.pk} of {found.symbol}",
        before="taken by nobody",
        after="taken by you",
        means=(
            f"Probably {found.get_cause_display()}: {_numbers(found)}.",
            "It stays open and the symbol stays frozen: it ends when both sides agree, or by reconciling.",
        ),
        button=f"Take incident {found.pk}",
        seen={"incident": found.pk},
        form=AckForm,
        danger=False,
    )


def acknowledge(shown: Shown, said: dict[str, Any], by: str) -> Answer:
    found = incidents.ack(incident_id=shown.seen["incident"], by=by, reason=said["reason"])
    if found is None or (found.acked_by, found.acked_reason) != (by, said["reason"]):
        return Answer(False, CHANGED)
    return Answer(True, f"Incident {found.pk} is taken by {found.acked_by}; it stays open.")


def _numbered(incident: Incident) -> str:
    return f"incident {incident.pk}: {_numbers(incident)}"


def _numbers(incident: Incident) -> str:
    ledger = "never entered" if incident.ledger_amt is None else amounts.plain(incident.ledger_amt)
    return f"exchange {amounts.plain(incident.exchange_amt)}, ledger {ledger}"


ACTS = {
    "halt": Act(("permits.halt", "permits.view_tradingstate"), "<str:scope>/", halting, halt),
    "resume": Act(("permits.resume", "permits.view_tradingstate"), "", leaving, resume),
    "lift": Act(("permits.lift", "permits.view_hold"), "<int:number>/", lifting, lift),
    "ack": Act(
        ("positions.reconcile", "positions.view_incident"), "<int:number>/", acknowledging, acknowledge
    ),
}
