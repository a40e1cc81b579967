"""The second factor of a login: asked for with the password, taken once, never shown again, reset with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import time_machine
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client as WebClient
from django.test import override_settings
from django.urls import reverse

from quantum import second_factor
from quantum.models import AuditEvent, RecoveryCode, SecondFactor
from quantum.redis import Client
from tests.flow.test_admin import text_of
from tests.flow.test_groups import ACT_NEEDS, ADDRESSES, PASSWORD, rows

OWN = "admin:quantum_second_factor"
NOW = 1_800_000_000


@pytest.fixture(autouse=True)
def given(redis: Client, transactional_db: None) -> Iterator[time_machine.Traveller]:
    cache.clear()
    with time_machine.travel(NOW, tick=False) as clock:
        yield clock


def person(name: str = "nina", *permissions: str, **more: Any) -> User:
    user: User = get_user_model().objects.create_user(name, password=PASSWORD, is_staff=True, **more)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def secret_of(user: User) -> bytes:
    secret = second_factor._opened(SecondFactor.objects.get(user=user))
    assert secret is not None
    return secret


def code(user: User, *, steps: int = 0) -> str:
    return second_factor.code_at(secret_of(user), int(NOW) // 30 + steps)


def with_code(name: str = "nina", **more: Any) -> tuple[User, list[str]]:
    """Somebody whose account has it; the code of this moment is not spent."""
    user = person(name, **more)
    second_factor.offer(user)
    codes = second_factor.confirm(user, code(user))
    assert codes is not None
    SecondFactor.objects.update(last_step=0)
    return user, codes


def log_in(token: str | None = None, *, name: str = "nina", web: WebClient | None = None, **more: Any) -> Any:
    sent = {"username": name, "password": PASSWORD, **({} if token is None else {"token": token})}
    return (web or WebClient()).post(reverse("admin:login"), sent, **more)


def inside(answer: Any) -> bool:
    """Whoever is not let in sees the form again."""
    return bool(answer.status_code == 302)


# ---- logging in


def test_an_account_that_has_it_needs_the_code_and_another_does_not() -> None:
    user, _ = with_code()
    person("omar")
    for wrong in (None, "", "000000", "abcdef", "1" * 40):
        assert not inside(log_in(wrong)), wrong
        cache.clear()
    assert inside(log_in(f" {code(user)[:3]} {code(user)[3:]}"))
    assert inside(log_in(name="omar"))


def test_a_wrong_code_says_no_more_than_a_wrong_password() -> None:
    user, _ = with_code()
    right = {"username": "nina", "password": PASSWORD, "token": "000000"}
    wrong = {"username": "nina", "password": "a wrong one", "token": code(user)}
    said = [
        re.findall(r'role="alert">([^<]+)<', text_of(WebClient().post(reverse("admin:login"), sent)))
        for sent in (right, wrong)
    ]
    assert said[0] == said[1] != []


def test_a_code_is_taken_once_and_none_older_after_it(given: time_machine.Traveller) -> None:
    user, _ = with_code()
    now, before, after = code(user), code(user, steps=-1), code(user, steps=1)
    assert inside(log_in(now))
    assert not inside(log_in(now)), "replayed"
    assert not inside(log_in(before)), "older than one that was taken"
    cache.clear()
    assert inside(log_in(after))


@pytest.mark.parametrize(("steps", "let_in"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_one_step_off(steps: int, let_in: bool) -> None:
    user, _ = with_code()
    assert inside(log_in(code(user, steps=steps))) is let_in


def test_wrong_codes_lock_like_wrong_passwords_and_the_right_one_does_not_help() -> None:
    user, _ = with_code()
    for _ in range(settings.AXES_FAILURE_LIMIT):
        log_in("000000", REMOTE_ADDR="192.0.2.7")
    answer = log_in(code(user), REMOTE_ADDR="192.0.2.7")
    assert answer.status_code == 429
    assert AuditEvent.objects.get(kind="login_locked").actor == "nina"
    assert inside(log_in(code(user))), "her own address"


def test_codes_cannot_be_guessed_from_many_addresses_and_a_recovery_code_still_lets_in() -> None:
    """Whoever knows the password and has a network of his own is locked out nowhere twice."""
    user, codes = with_code()
    for number in range(second_factor.GUESSES_MAX):
        assert not inside(log_in("000000", REMOTE_ADDR=f"2001:db8::{number:x}"))
    assert not inside(log_in(code(user), REMOTE_ADDR="2001:db8::ffff"))
    assert AuditEvent.objects.get(kind="second_factor_guessed").actor == "nina"
    assert inside(log_in(codes[0], REMOTE_ADDR="2001:db8::ffff"))
    assert inside(log_in(code(user))), "she is in, and the count begins anew"


def test_nobody_without_the_password_can_use_up_somebodys_codes() -> None:
    user, _ = with_code()
    wrong = {"username": "nina", "password": "a wrong one", "token": "000000"}
    for number in range(second_factor.GUESSES_MAX + 1):
        WebClient().post(reverse("admin:login"), wrong, REMOTE_ADDR=f"2001:db8::{number:x}")
    assert inside(log_in(code(user)))


def test_a_recovery_code_lets_in_once_and_is_told() -> None:
    _, [first, *others] = with_code()
    assert len(others) == 7
    assert inside(log_in(first.lower()))
    assert not inside(log_in(first)), "used"
    [event] = AuditEvent.objects.filter(kind="recovery_code_used")
    assert (event.actor, event.data) == ("nina", {"left": 7})
    stored = set(RecoveryCode.objects.values_list("digest", flat=True))
    assert not stored & {each.replace("-", "") for each in others}


def test_a_code_of_somebody_else_lets_nobody_in() -> None:
    with_code()
    _, [of_omar, *_] = with_code("omar")
    for token in (code(User.objects.get(username="omar")), of_omar):
        assert not inside(log_in(token))


def test_another_secret_key_lets_nobody_in_past_the_code() -> None:
    user, [recovery, *_] = with_code()
    now = code(user)
    with override_settings(SECRET_KEY="x" * 50):
        assert not inside(log_in(now))
        assert not inside(log_in(recovery))
        assert not inside(log_in())


def test_f11_the_session_is_another_once_both_factors_are_said() -> None:
    user, _ = with_code()
    web = WebClient()
    planted = web.session
    planted.save()
    web.cookies[settings.SESSION_COOKIE_NAME] = str(planted.session_key)
    answer = log_in("000000", web=web)
    assert settings.SESSION_COOKIE_NAME not in answer.cookies
    assert web.get(reverse("admin:index")).status_code == 302, "the password alone opens nothing"
    answer = log_in(code(user), web=web)
    assert answer.cookies[settings.SESSION_COOKIE_NAME].value != planted.session_key


# ---- turning it on and off


def set_up(user: User) -> tuple[WebClient, str, str]:
    """Logged in with the password: the browser, the page with the offer, the secret on it."""
    web = WebClient()
    assert inside(log_in(name=user.username, web=web))
    shown = text_of(web.post(reverse(f"{OWN}_begin"), {"password": PASSWORD}))
    found = re.search(r'<dt>Secret</dt><dd class="id">([A-Z2-7 ]+)<', shown)
    assert found is not None, shown
    return web, shown, found[1].replace(" ", "")


def test_it_is_on_when_one_code_has_come_back_and_never_shown_again(
    capfd: pytest.CaptureFixture[str],
) -> None:
    user = person()
    web, shown, secret = set_up(user)
    assert f"secret={secret}" in shown and "<svg" in shown and "style=" not in shown
    assert inside(log_in()), "nothing is asked for before that"
    spaced = " ".join(re.findall("....", secret))
    told = [text_of(web.post(reverse(f"{OWN}_confirm"), {"token": "000000"}))]
    assert "not shown again" in told[0]
    assert second_factor.of(user) is None
    answer = web.post(reverse(f"{OWN}_confirm"), {"token": code(user)})
    codes = re.findall(r"<li>((?:[A-Z2-7]{4}-){3}[A-Z2-7]{4})</li>", text_of(answer))
    assert len(codes) == 8
    assert "no-store" in answer["Cache-Control"]
    assert not inside(log_in(code(user))), "spent by turning it on"
    root = WebClient()
    root.force_login(get_user_model().objects.create_superuser("root"))
    pages = [web.get(reverse(OWN)), root.get(reverse("admin:auth_user_change", args=[user.pk]))]
    pages += [root.get(reverse(f"{OWN}_of", args=[user.pk])), root.get(reverse("admin:index"))]
    told += [*map(text_of, pages), "".join(capfd.readouterr()), repr(list(AuditEvent.objects.values()))]
    told.append(repr([*SecondFactor.objects.values(), *RecoveryCode.objects.values()]))
    for hidden in (secret, spaced, *codes, *(each.replace("-", "") for each in codes)):
        assert not [text for text in told if hidden in text]


def test_a_page_left_open_ties_no_account_to_a_strangers_phone() -> None:
    user = person()
    web = WebClient()
    log_in(web=web)
    for _ in range(settings.AXES_FAILURE_LIMIT):
        web.post(reverse(f"{OWN}_begin"), {"password": "a guess"})
    assert web.post(reverse(f"{OWN}_begin"), {"password": PASSWORD}).status_code == 429
    assert not SecondFactor.objects.filter(user=user).exists()


def test_an_offer_is_taken_for_a_quarter_of_an_hour(given: time_machine.Traveller) -> None:
    user = person()
    second_factor.offer(user)
    given.shift(second_factor.OFFER_LIFE_S)
    late = second_factor.code_at(secret_of(user), (NOW + second_factor.OFFER_LIFE_S) // 30)
    assert second_factor.confirm(user, late) is None


def test_f11_other_logins_end_when_it_is_turned_on_and_this_one_gets_another_key() -> None:
    user, other = person(), WebClient()
    log_in(web=other)
    web, _, _ = set_up(user)
    before = web.cookies[settings.SESSION_COOKIE_NAME].value
    web.post(reverse(f"{OWN}_confirm"), {"token": code(user)})
    assert web.cookies[settings.SESSION_COOKIE_NAME].value != before
    assert web.get(reverse("admin:index")).status_code == 200
    assert other.get(reverse("admin:index")).status_code == 302


def test_turning_it_off_needs_the_password_and_a_code() -> None:
    user, _ = with_code()
    web = WebClient()
    log_in(code(user), web=web)
    SecondFactor.objects.update(last_step=0)
    for sent in (
        {"password": PASSWORD, "token": "000000"},
        {"password": "a guess", "token": code(user)},
        {"password": PASSWORD},
    ):
        web.post(reverse(f"{OWN}_off"), sent)
        assert second_factor.of(user) is not None, sent
    web.post(reverse(f"{OWN}_off"), {"password": PASSWORD, "token": code(user)})
    assert second_factor.of(user) is None
    assert AuditEvent.objects.get(kind="second_factor_off").actor == "nina"


def test_it_cannot_be_set_up_where_it_could_not_be_read_after_a_restart() -> None:
    user, web = person(), WebClient()
    log_in(web=web)
    with override_settings(SECRET_KEY_GIVEN=False):
        assert "SECRET_KEY is not set" in text_of(web.get(reverse(OWN)))
        web.post(reverse(f"{OWN}_begin"), {"password": PASSWORD})
    assert not SecondFactor.objects.filter(user=user).exists()


# ---- where everybody needs it


@override_settings(WEB_TOTP_REQUIRED="on")
def test_where_it_is_required_whoever_has_none_reaches_no_page_and_no_act_by_address() -> None:
    user = person(is_superuser=True)
    web, _, _ = set_up(user)
    allowed = {reverse("admin:logout"), reverse("admin:login"), reverse(OWN)}
    allowed |= {reverse(f"{OWN}_begin"), reverse(f"{OWN}_confirm")}
    before = rows()
    for name, address in ADDRESSES:
        if address in allowed:
            continue
        looked = web.get(address)
        assert (looked.status_code, looked["Location"]) == (302, reverse(OWN)), name
        answer = web.post(address, {"reason": "to see whether it holds"})
        assert answer.status_code == 403 and "WEB_TOTP_REQUIRED" in text_of(answer), name
    assert rows() == before
    assert len(ACT_NEEDS) > 10
    assert "Set yours up first" in text_of(web.get(reverse(OWN)))
    web.post(reverse(f"{OWN}_confirm"), {"token": code(user)})
    assert web.get(reverse("admin:index")).status_code == 200


@override_settings(WEB_TOTP_REQUIRED="on", WEB_READ_ONLY="on")
def test_who_may_only_look_can_still_set_it_up() -> None:
    user = person()
    web, _, _ = set_up(user)
    web.post(reverse(f"{OWN}_confirm"), {"token": code(user)})
    assert web.get(reverse("admin:index")).status_code == 200
    assert web.post(reverse(f"{OWN}_off")).status_code == 403


# ---- reset


def reset_page(web: WebClient, user: User) -> tuple[str, str]:
    shown = text_of(web.get(reverse(f"{OWN}_of", args=[user.pk])))
    [mark] = re.findall(r'name="mark" value="([^"]+)"', shown) or [""]
    return shown, mark


def test_a_reset_is_previewed_has_a_reason_ends_the_logins_and_is_recorded() -> None:
    user, _ = with_code()
    hers, admin = WebClient(), WebClient()
    log_in(code(user), web=hers)
    admin.force_login(person("omar", "view_user", "change_user"))
    assert reverse(f"{OWN}_of", args=[user.pk]) in text_of(
        admin.get(reverse("admin:auth_user_change", args=[user.pk]))
    )
    shown, mark = reset_page(admin, user)
    assert "every login of nina ends" in shown
    address = reverse(f"{OWN}_reset", args=[user.pk])
    for sent in ({"mark": mark, "reason": "short"}, {"mark": "made up", "reason": "she lost her phone"}):
        admin.post(address, sent)
        assert second_factor.of(user) is not None, sent
    admin.post(address, {"mark": mark, "reason": "she lost her phone"})
    assert second_factor.of(user) is None
    assert hers.get(reverse("admin:index")).status_code == 302
    [event] = AuditEvent.objects.filter(kind="second_factor_reset")
    assert (event.actor, event.reason, event.data) == ("omar", "she lost her phone", {"person": "nina"})
    assert inside(log_in())


def test_f18_a_reset_of_one_that_was_made_anew_meanwhile_is_refused() -> None:
    user, _ = with_code()
    admin = WebClient()
    admin.force_login(person("omar", "view_user", "change_user"))
    _, mark = reset_page(admin, user)
    SecondFactor.objects.all().delete()
    second_factor.offer(user)
    second_factor.confirm(user, code(user))
    answer = admin.post(
        reverse(f"{OWN}_reset", args=[user.pk]),
        {"mark": mark, "reason": "she lost her phone"},
        follow=True,
    )
    assert "not so any more" in text_of(answer)
    assert second_factor.of(user) is not None


def test_nobody_resets_his_own_past_the_code_nor_a_superusers() -> None:
    root, _ = with_code("root", is_superuser=True)
    omar = person("omar", "view_user", "change_user")
    second_factor.offer(omar)
    second_factor.confirm(omar, code(omar))
    admin = WebClient()
    admin.force_login(omar)
    for user in (root, omar):
        sent = {"mark": second_factor_mark(user), "reason": "to be rid of it"}
        assert admin.post(reverse(f"{OWN}_reset", args=[user.pk]), sent).status_code == 403
        assert second_factor.of(user) is not None


def second_factor_mark(user: User) -> str:
    from quantum import second_factor_pages

    factor = second_factor.of(user)
    assert factor is not None
    return second_factor_pages._mark(factor)


def test_the_command_resets_with_who_and_why() -> None:
    user, _ = with_code()
    call_command("totp_reset", "nina", "--by", "omar", "--reason", "she lost her phone", "--yes")
    assert second_factor.of(user) is None
    [event] = AuditEvent.objects.filter(kind="second_factor_reset")
    assert (event.actor, event.reason) == ("omar", "she lost her phone")
    for wrong, left in (("nina", 4), ("nobody", 2)):
        with pytest.raises(SystemExit) as ended:
            call_command("totp_reset", wrong, "--by", "omar", "--reason", "she lost her phone")
        assert ended.value.code == left
