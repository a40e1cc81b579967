"""The wire contract of a plan: anything may be on the stream, and only a plan is read as one."""

from __future__ import annotations

from decimal import Decimal

import pytest

from quantum.plan import (
    ENTRY_BYTES_MAX,
    FIELDS_MAX,
    STEPS,
    Action,
    Decision,
    ExitPlan,
    MalformedPlan,
    digest,
    make,
    parse,
)
from tests.properties import given, st

GOOD: dict[bytes, bytes] = {
    b"plan_id": b"67e6da21fa9fe506",
    b"symbol": b"BTCUSDT",
    b"action": b"PARTIAL_75",
    b"kill_score": b"0.81",
    b"decision": b"EXECUTE",
    b"timestamp": b"1764000000.123",
}
NAMES = [*GOOD, b"steps", b"expires_at", b"mode", b"source", b"reason_codes", b"v"]
NASTY = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=40).map(str.encode),
    st.sampled_from(
        [
            b"NaN",
            b"inf",
            b"-0",
            b"1e9",
            b"[" * 3000,
            b"9" * 4000,
            b"\x00",
            b"null",
            b"true",
            b"0x10",
            b" 1",
            b"1\n",
        ]
    ),
)


def entry(**more: str) -> dict[bytes, bytes]:
    return GOOD | {name.encode(): value.encode() for name, value in more.items()}


def only_malformed(raw: dict[bytes, bytes]) -> ExitPlan | None:
    """Any other exception fails the test."""
    try:
        return parse(raw)
    except MalformedPlan as malformed:
        said = str(malformed)
    assert said.isprintable()
    assert len(said) < 200, "the text repeats what a stranger wrote"
    return None


@given(st.dictionaries(st.binary(max_size=30), st.binary(max_size=300), max_size=40))
def test_any_bytes_are_a_plan_or_malformed_and_nothing_else(raw: dict[bytes, bytes]) -> None:
    only_malformed(raw)


@given(st.dictionaries(st.sampled_from(NAMES), NASTY, max_size=4))
def test_a_plan_with_bent_fields_is_a_plan_or_malformed_and_nothing_else(bent: dict[bytes, bytes]) -> None:
    plan = only_malformed(GOOD | bent)
    if plan is not None:
        assert plan.symbol.isprintable()
        assert plan.timestamp.is_finite()
        assert plan.expiry_s(ttl_s=Decimal(30)) <= plan.timestamp + 30


@pytest.mark.parametrize("name", GOOD)
def test_each_of_the_six_public_fields_is_needed(name: bytes) -> None:
    with pytest.raises(MalformedPlan, match=name.decode()):
        parse({key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize(
    "plan_id",
    [
        "67E6DA21FA9FE506",
        "67e6da21fa9fe50",
        "67e6da21fa9fe5060",
        "67e6da21fa9fe506\n",
        "",
        "٠" * 16,
        "../etc/passwd/..",
    ],
)
def test_a_plan_id_is_16_lower_case_hexadecimal_digits(plan_id: str) -> None:
    with pytest.raises(MalformedPlan, match="plan_id"):
        parse(entry(plan_id=plan_id))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e3", "", " 1", "+1", "0x1", "1_000", "１", "1.", ".5"])
@pytest.mark.parametrize("name", ["kill_score", "timestamp", "expires_at"])
def test_numbers_are_plain_decimal_text(name: str, text: str) -> None:
    with pytest.raises(MalformedPlan, match=name):
        parse(entry(**{name: text}))


@pytest.mark.parametrize("timestamp", ["0", "1499999999", "10000000001", "-1764000000"])
def test_a_timestamp_is_of_this_age(timestamp: str) -> None:
    with pytest.raises(MalformedPlan, match="timestamp"):
        parse(entry(timestamp=timestamp))


def test_an_entry_is_bounded_in_size_and_in_fields() -> None:
    used = sum(len(name) + len(value) for name, value in GOOD.items())
    room = ENTRY_BYTES_MAX - used - len(b"source")
    assert parse(GOOD | {b"source": b"s" * room}).source == "s" * room
    with pytest.raises(MalformedPlan, match="larger"):
        parse(GOOD | {b"source": b"s" * (room + 1)})
    more = {f"f{number}".encode(): b"" for number in range(FIELDS_MAX - len(GOOD))}
    assert parse(GOOD | more).plan_id == "67e6da21fa9fe506"
    with pytest.raises(MalformedPlan, match="fields"):
        parse(GOOD | more | {b"one": b""})


def test_given_steps_must_follow_from_the_action() -> None:
    step = '[{"step":"CLOSE_PARTIAL_75","percent":75}]'
    assert parse(entry(steps=step)) == parse(GOOD)
    for other in ("[]", step.replace("75}", "100}"), step.replace("]", "," + step[1:]), "{}", "[[[["):
        with pytest.raises(MalformedPlan, match="steps"):
            parse(entry(steps=other))


@pytest.mark.parametrize("name", ["source", "reason_codes"])
def test_a_text_that_no_database_can_store_is_malformed(name: str) -> None:
    with pytest.raises(MalformedPlan):
        parse(entry(**{name: "a\x00b"}))


# ---- the digest


def digest_of(**changed: str) -> str:
    return parse(entry(**changed)).digest


@pytest.mark.parametrize(
    "changed",
    [
        {"plan_id": "67e6da21fa9fe507"},
        {"symbol": "ETHUSDT"},
        {"action": "PARTIAL_50"},
        {"kill_score": "0.810"},
        {"decision": "SKIP"},
        {"timestamp": "1764000000.124"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_the_digest_changes_with_every_field_it_covers(changed: dict[str, str]) -> None:
    assert digest_of(**changed) != digest_of()


@given(
    st.lists(st.text(max_size=6), min_size=4, max_size=4),
    st.lists(st.text(max_size=6), min_size=4, max_size=4),
)
def test_no_two_contents_share_a_digest_however_their_texts_run_together(
    one: list[str], two: list[str]
) -> None:
    def of(texts: list[str]) -> str:
        plan_id, symbol, score, timestamp = texts
        return digest(plan_id, symbol, Action.PARTIAL_75, score, Decision.EXECUTE, timestamp)

    assert (of(one) == of(two)) == (one == two)


def test_every_action_has_a_digest_of_its_own() -> None:
    assert len({digest_of(action=action.value) for action in Action}) == len(Action)


# ---- plans of our own


def made(action: Action = Action.PARTIAL_75, **more: object) -> ExitPlan:
    said = {
        "symbol": "BTCUSDT",
        "kill_score_text": "0.81",
        "timestamp_text": "1764000000.123",
        "mode": "paper",
        "source": "tests",
        **more,
    }
    return make(action=action, **said)  # type: ignore[arg-type]


def test_saying_a_plan_twice_is_one_plan() -> None:
    assert made() == made()
    assert made(source="another").plan_id == made().plan_id


@pytest.mark.parametrize(
    "more",
    [
        {"symbol": "ETHUSDT"},
        {"kill_score_text": "0.82"},
        {"timestamp_text": "1764000000.124"},
        {"stop_proposed": "1"},
        {"attempt": 2},
        {"action": Action.FULL_CLOSE},
    ],
    ids=lambda more: next(iter(more)),
)
def test_saying_another_thing_is_another_plan(more: dict[str, object]) -> None:
    assert made(**more).plan_id != made().plan_id  # type: ignore[arg-type]


@pytest.mark.parametrize("action", Action)
def test_what_is_published_is_read_as_the_same_plan(action: Action) -> None:
    plan = made(action)
    assert parse({name.encode(): value.encode() for name, value in plan.fields().items()}) == plan
    assert plan.decision is (Decision.EXECUTE if action in STEPS else Decision.SKIP)


def test_expires_at_only_shortens() -> None:
    ttl_s = Decimal(30)
    usual = parse(GOOD).expiry_s(ttl_s=ttl_s)
    assert usual == Decimal("1764000030.123")
    assert parse(entry(expires_at="1764000010")).expiry_s(ttl_s=ttl_s) == 1764000010
    assert parse(entry(expires_at="1764009999")).expiry_s(ttl_s=ttl_s) == usual


def test_the_future_begins_after_five_seconds() -> None:
    plan = parse(entry(timestamp="1764000000"))
    assert not plan.is_from_the_future(now_s=1763999995)
    assert plan.is_from_the_future(now_s=1763999994.9)
