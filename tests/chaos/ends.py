"""The checker's part for ends: a reason for every refusal, coming back, secrets, poison, and exits that do fill."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.chaos.evidence import Evidence, Finding, Findings, Row, is_ours, plan_of, seconds

FILLED_SHARE_MIN = 0.6
UNTOUCHED_MIN = 4
BACK_S = 10.0
SETTLES_S = 1.5
"""How long after its publication a plan may be at work: until then a fault touches it."""

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "OPERATIONS.md"
FORGETS = ("wipe", "valkey_kill")
WITHOUT_REASON = ("filled", "partially_filled")
NEVER_LOOKED = ("symbol_not_allowed", "future_plan", "stale_plan")
"""Refused before anybody looked at permits: there are no TTLs to tell."""


def _explained(heading: str) -> set[str]:
    """The closed lists as operators have them: what is not explained there is no reason."""
    section = OPERATIONS.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `([a-z0-9_]+)` \|", section, flags=re.MULTILINE)
    return set(found) - {"approved", "sanity_checks_passed"}


def reasons(evidence: Evidence) -> Findings:
    """I6."""
    ends = _explained("Reasons of the gate") | _explained("Reasons of apply")
    said_by = {
        "governor_denied": _explained("Reasons of the Governor"),
        "p33_denied": _explained("Reasons of the Brain"),
    }
    for plan in evidence.plans:
        if plan["state"] in WITHOUT_REASON or plan["state"] in ("open", "intended"):
            continue
        error = str(plan["error"])
        word = error.removeprefix("permit_timeout_or_missing:").removeprefix("permit_denied:")
        if word not in ends and not (plan["state"] == "already_done" and not word):
            yield Finding("I6", "no reason of the closed lists", plan["plan_id"],
                          {"state": plan["state"], "error": error})  # fmt: skip
            continue
        if plan["state"] != "blocked" or word in NEVER_LOOKED:
            continue
        if plan["gov_ttl"] is None or plan["p33_ttl"] is None:
            yield Finding("I6", "blocked without both TTLs", plan["plan_id"], {"error": error})
        if word in said_by and plan["gate_reason"] not in said_by[word]:
            yield Finding(
                "I6", "a gate said no and not why", plan["plan_id"], {"said": str(plan["gate_reason"])}
            )


def told_once(evidence: Evidence) -> Findings:
    """I6 for readers: one result a plan, which says what the row says. I17: its history begins and ends."""
    for plan_id, times in Counter(row["plan_id"] for row in evidence.results).items():
        if times > 1:
            yield Finding("I6", "more than one result", plan_id, {"results": str(times)})
    for result in evidence.results:
        plan = evidence.plan(result["plan_id"])
        filled = plan is not None and plan["state"] in WITHOUT_REASON
        if plan is None or result["error"] != plan["error"] or (result["executed"] == "True") != filled:
            numbers = {"result": result["error"] or result["executed"], "row": str(plan and plan["state"])}
            yield Finding("I6", "a result that is not what the row says", result["plan_id"], numbers)
    for plan in evidence.plans:
        kinds = {event["kind"] for event in evidence.events_of(plan["plan_id"])}
        if "plan_recorded" not in kinds or (plan["state"] != "open" and f"plan_{plan['state']}" not in kinds
                                            and plan["state"] != "intended"):  # fmt: skip
            yield Finding(
                "I17", "nobody can see what became of it", plan["plan_id"], {"state": plan["state"]}
            )


def comes_back(evidence: Evidence) -> Findings:
    """I8."""
    for probe in evidence.probes:
        took_s = probe["took_s"]
        if took_s is None or took_s > BACK_S:
            yield Finding("I8", "no fresh plan passed within 10 s", str(probe.get("plan_id") or ""),
                          {"after": probe["after"], "took": str(took_s), "last": str(probe.get("last"))})  # fmt: skip
    for what in evidence.faults_of_end:
        yield Finding("I8", "did not come to rest", "", {"what": what})
    for plan in evidence.plans:
        if plan["state"] in ("open", "intended", "unknown") or not plan["result_id"]:
            yield Finding("I8", "has no end after the quiet phase", plan["plan_id"], {"state": plan["state"]})


def no_secret(evidence: Evidence) -> Findings:
    """I9. Names where, never what."""
    for where, text in evidence.texts.items():
        for name, secret in evidence.secrets.items():
            if secret and secret in text:
                yield Finding(
                    "I9", "a secret is written where it must not be", "", {"secret": name, "in": where}
                )


def poison_is_parked(evidence: Evidence) -> Findings:
    """I14. Once each, with its error, unless a wiped Redis took the entry itself; and nothing waits for ever."""
    parked = Counter(row["entry"] for row in evidence.dead)
    for entry, times in parked.items():
        if times > 1 + _read_anew(evidence, int(entry.partition("-")[0]) / 1000):
            yield Finding("I14", "parked more than once", "", {"entry": entry, "times": str(times)})
    for row in evidence.dead:
        if not row["error"]:
            yield Finding("I14", "parked without its error", "", {"entry": row["entry"]})
    for poison in evidence.poisons:
        if not parked[poison["entry"]] and not _wiped_since(evidence, poison["at"]):
            yield Finding("I14", "poison that was not parked", "", {"entry": poison["entry"]})
    for group in evidence.groups:
        if group["pending"] or group["lag"]:
            yield Finding("I14", "entries nobody ends", "", {name: str(group[name]) for name in group})


def _read_anew(evidence: Evidence, at_s: float) -> int:
    """How often the group has forgotten since then what it had ended: it begins at 0 again, and parks again."""
    kinds = (*FORGETS, "group_gone")
    return sum(fault["kind"] in kinds and fault["from"] >= at_s - 2.0 for fault in evidence.faults)


def _wiped_since(evidence: Evidence, at_s: float) -> bool:
    """Also a killed server: its file may lack the last second."""
    return any(fault["kind"] in FORGETS and fault["from"] >= at_s - 2.0 for fault in evidence.faults)


# ---- blocking everything is no way to keep the rest


def untouched(evidence: Evidence) -> list[Row]:
    """Published plans that no fault can have met: by time and symbol, and not where their symbol was locked or held."""
    found = []
    for plan in evidence.published:
        row = evidence.plan(plan["plan_id"])
        ended_s = seconds(row["ended_at"]) if row and row["ended_at"] else None
        until_s = min(ended_s or plan["at"] + SETTLES_S, plan["at"] + SETTLES_S)
        if not plan["trouble"] and not any(_touches(fault, plan, until_s) for fault in evidence.faults):
            found.append(plan)
    return found


def _touches(fault: Row, plan: Row, until_s: float) -> bool:
    if fault.get("plans") and plan["plan_id"] in fault["plans"]:
        return True
    if fault["symbols"] is not None and plan["symbol"] not in fault["symbols"]:
        return False
    return bool(fault["from"] <= until_s and plan["at"] <= fault["until"])


def filled(evidence: Evidence, plans: list[Row]) -> list[Row]:
    states = {row["plan_id"]: row["state"] for row in evidence.plans}
    return [plan for plan in plans if states.get(plan["plan_id"]) == "filled"]


def exits_do_fill(evidence: Evidence) -> Findings:
    calm = untouched(evidence)
    done = filled(evidence, calm)
    numbers = {"untouched": str(len(calm)), "filled": str(len(done))}
    if len(calm) < min(UNTOUCHED_MIN, len(evidence.published) // 8):
        yield Finding("untouched", "too few plans were left alone to say anything", "", numbers)
    elif len(done) < FILLED_SHARE_MIN * len(calm):
        missed = next(plan["plan_id"] for plan in calm if plan not in done)
        yield Finding("untouched", "exits that no fault touched did not fill", missed, numbers)


def orders_are_known(evidence: Evidence) -> Findings:
    """I17: who looks at an order finds its plan."""
    for order in evidence.exchange_orders:
        if is_ours(order["client_id"]) and evidence.plan(plan_of(order["client_id"])) is None:
            yield Finding(
                "I17", "an order at the exchange whose plan nobody knows", plan_of(order["client_id"])
            )
