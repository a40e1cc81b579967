"""The policy: what it allows and how much of that is used, a draft and what it would have decided, who changed what and
why, and what the shadow rules would have denied."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.contrib import messages
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from msgspec import Struct
from msgspec.structs import replace

from permits.governor import replay, standing_use
from permits.models import Judgement, PolicyVersion
from permits.pages.acts import NO_DATABASE, Answer
from permits.pages.policy_forms import LAST, LIMITS, SHADOW, LimitsForm, SetForm
from permits.pages.policy_use import sections
from permits.policy import policies, rules
from permits.policy.policy import LimitSet
from permits.policy.rules import Nonsense, Rules
from quantum import amounts, facts
from quantum.lists import Leaf
from quantum.redis import command_client

VERSIONS_SHOWN = 20
DIGITS_MAX = 9
SHADOWED_COUNTED, SHADOWED_SHOWN = 10_000, 10
DIFFERING_SHOWN = 50


def page(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:
    version, said = policies.newest()
    shown = {
        **context,
        "title": "Policy",
        "version": version,
        "on": SHADOW if request.GET.get("on") == SHADOW else LIMITS,
        "may": request.user.has_perm("permits.set_policy"),
        "shadowed": _shadowed(),
        **_history(request.GET.get("before", "")),
    }
    try:
        read = rules.read(said)
    except Nonsense as nonsense:
        shown["unreadable"] = nonsense.problems
    else:
        shown |= _limits(request, version, said, read, on=shown["on"])
    return TemplateResponse(request, "permits/policy_list.html", shown)


# ---- limits, and a draft


def _limits(request: HttpRequest, version: int, said: Rules, read: rules.Read, *, on: str) -> dict[str, Any]:
    asked = request.GET.get("symbol", "").strip().upper()
    symbol = asked if rules.SYMBOL.fullmatch(asked) else ""
    place: Rules = said if on == LIMITS else said.get("shadow") or {}
    drafted = "seen" in request.GET
    kept: dict[str, Any] = {"place": place, "symbol": symbol, "on": on}
    form = (
        LimitsForm(request.GET, **kept)
        if drafted
        else LimitsForm(initial={"seen": version, "symbol": symbol, "on": on}, **kept)
    )
    limits = read.limits if on == LIMITS else read.shadow or LimitSet()
    named = {*read.allowlist, *limits.symbols, *([symbol] if symbol else [])}
    use = standing_use.read(command_client(), named)
    return {
        "form": form,
        "symbol": symbol,
        "asked": asked if asked != symbol else "",
        "allowlist": sorted(read.allowlist),
        "sections": sections(form, limits, use, symbol),
        "own": sorted({*place.get("symbols", {})}),
        "reserved_known": use.reserved_known,
        "operator": rules.difference({}, said.get("operator", {})),
        "has_shadow": bool(rules.difference({}, said.get("shadow") or {})),
        "draft": _draft(form, version, said, on=on) if drafted else None,
        "end_shadow": SetForm(initial={"seen": version, "on": LIMITS, "words": "shadow=none"}),
    }


class Draft(Struct, frozen=True):
    problems: tuple[str, ...] = ()
    changes: tuple[tuple[str, str, str], ...] = ()
    form: SetForm | None = None
    tried: dict[str, Any] | None = None


def _draft(form: LimitsForm, version: int, said: Rules, *, on: str) -> Draft:
    if not form.is_valid():
        return Draft(problems=tuple(form.problems))
    seen = form.cleaned_data["seen"]
    if seen != version:
        return Draft(problems=(_stale(seen, version),))
    words = form.words()
    try:
        after = rules.changed(said, words, shadow=on == SHADOW)
        policy = policies.of(after, version=version)
    except Nonsense as nonsense:
        return Draft(problems=nonsense.problems)
    if on == SHADOW:
        policy = replace(policy, limits=policy.shadow or LimitSet())
    recorded = replay.recent(form.cleaned_data["last"] or LAST)
    found = replay.replay(recorded.pasts, policy, charges=recorded.charges)
    same, of = replay.agree(recorded.pasts)
    return Draft(
        changes=_worded(said, after),
        form=SetForm(initial={"seen": version, "on": on, "words": "\n".join(words)}) if words else None,
        tried={
            "plans": len(found),
            "known": sum(one.known for one in found),
            "same": same,
            "of": of,
            "ways": [
                ("Was allowed, would be denied", *_told([one for one in found if one.stops])),
                ("Was denied, would be allowed", *_told([one for one in found if one.frees])),
                (
                    "Would be denied for another reason",
                    *_told([one for one in found if one.differs and not one.stops and not one.frees]),
                ),
            ],
        },
    )


def _told(found: list[replay.Replayed]) -> tuple[int, list[dict[str, Any]]]:
    """The newest of them."""
    return len(found), [
        {
            "plan": facts.plan_link(one.past.plan_id),
            "symbol": one.past.symbol,
            "was": one.past.said,
            "would": one.reason,
            "compared": [
                (name.replace("_", " "), value if isinstance(value, str) else amounts.plain(value))
                for name, value in one.rule.items()
            ],
        }
        for one in found[: -DIFFERING_SHOWN - 1 : -1]
    ]


def _worded(before: Rules, after: Rules) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (name, rules.worded(name, old), rules.worded(name, new))
        for name, (old, new) in rules.difference(before, after).items()
    )


def _stale(seen: int, version: int) -> str:
    return (
        f"the page showed version {seen}, and the policy is at version {version} by now: "
        "look at what that changed, then decide"
    )


# ---- what happened


def _history(text: str) -> dict[str, Any]:
    """A leaf of versions, newest first, each with what it changed against the one before it."""
    before = int(text) if text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX else None
    asked = PolicyVersion.objects.order_by("-version")
    asked = asked if before is None else asked.filter(version__lt=before)
    rows = list(asked[: VERSIONS_SHOWN + 1])
    versions = [
        {
            "row": row,
            "at": facts.moment(row.at),
            "age": facts.age(row.at),
            "changes": _worded(older.rules, row.rules) if older else None,
        }
        for row, older in zip(rows[:VERSIONS_SHOWN], [*rows[1:], None], strict=False)
    ]
    older = rows[VERSIONS_SHOWN - 1].version if len(rows) > VERSIONS_SHOWN else None
    return {"versions": versions, "leaf": Leaf(rows, older=older), "turned": before is not None}


def _shadowed() -> dict[str, Any]:
    found = Judgement.objects.exclude(shadow="").order_by("-id")
    reasons = Counter(found.values_list("shadow", flat=True)[:SHADOWED_COUNTED])
    return {
        "reasons": reasons.most_common(),
        "count": reasons.total(),
        "full": reasons.total() == SHADOWED_COUNTED,
        "rows": [
            {
                "at": facts.moment(row.at),
                "plan": facts.plan_link(row.plan_id),
                "row": row,
                "compared": [(name.replace("_", " "), str(value)) for name, value in row.shadow_rule.items()],
            }
            for row in found[:SHADOWED_SHOWN]
        ],
    }


# ---- the act


def set_policy(request: HttpRequest, *, context: dict[str, Any]) -> HttpResponse:  # noqa: ARG001  a page's
    form = SetForm(request.POST)
    if form.is_valid():
        answer = _set(form, by=request.user.get_username())
    else:
        answer = Answer(False, f"Nothing was changed. {form.problems}")
    messages.add_message(request, messages.SUCCESS if answer.done else messages.ERROR, answer.text)
    return HttpResponseRedirect(reverse("admin:permits_policyversion_changelist"))


def _set(form: SetForm, *, by: str) -> Answer:
    """What policy_set does, with the version that was shown for --expect."""
    said = form.cleaned_data
    try:
        version, before = policies.newest()
        if said["seen"] != version:
            return Answer(False, f"Nothing was changed: {_stale(said['seen'], version)}.")
        after = rules.changed(before, form.said, shadow=said["on"] == SHADOW)
        if not rules.difference(before, after):
            return Answer(False, "Nothing was changed: that is what the policy says already.")
        row = policies.change(rules=after, by=by, reason=said["reason"], expected_version=version)
    except Nonsense as nonsense:
        return Answer(False, f"Nothing was changed. {nonsense}.")
    except policies.ChangedMeanwhile as meanwhile:
        return Answer(False, f"Nothing was changed: {_stale(said['seen'], meanwhile.newest)}.")
    except DatabaseError:
        return Answer(False, NO_DATABASE)
    return Answer(True, f"Version {row.version} holds; the Governor obeys it within a second.")
