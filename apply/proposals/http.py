"""POST /api/proposals, GET /api/proposals/<id>, and the schema of what is posted.

Bearer tokens only: no cookie opens anything here, so there is nothing to forge across sites. Every refusal is JSON with
a word for programs and a text for people, and says nothing of the bearer's token.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.http.request import RawPostDataException, UnreadablePostError
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django_redis.exceptions import ConnectionInterrupted

from apply.models import ApiToken, Order, Plan, Proposal
from apply.proposals import body, taking, tokens
from apply.proposals.body import WrongBody
from apply.proposals.proposal import BYTES_MAX
from apply.proposals.taking import CameTo, Origin, Taken
from permits.policy.rules import Nonsense
from quantum import amounts
from quantum.redis import RedisError, command_client

WAY = "http"
SAFE_AGAIN = "ask again with the same content: what was done by now is not done twice"
UNPUBLISHED = "recorded, but Redis gave no answer: it is published when Redis is back, if it is fresh then"
SCHEMA = settings.BASE_DIR / "docs" / "proposal.schema.json"
_BEARER = re.compile(r"Bearer ([A-Za-z0-9_-]{20,80})")
_KEY = re.compile(r"[\x21-\x7e]{1,80}")

View = Callable[[HttpRequest, ApiToken], HttpResponse]


class Denied(WrongBody):
    """Refused before the body is looked at."""


def _answer(status: int, error: str, text: str, **more: Any) -> HttpResponse:
    return JsonResponse({"error": error, "text": text, **more}, status=status)


def _api(
    *, method: str, scope: str
) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponseBase]]:
    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponseBase]:
        @csrf_exempt
        @never_cache
        @wraps(view)
        def called(request: HttpRequest, **address: Any) -> HttpResponse:
            try:
                if request.method != method:
                    answer = _answer(405, "method", f"this address takes {method}")
                    answer["Allow"] = method
                    return answer
                return view(request, _admitted(request, scope=scope), **address)
            except WrongBody as wrong:
                return _refusal(wrong)
            except DatabaseError:
                return _answer(503, "database", f"the database refuses; {SAFE_AGAIN}")
            except Nonsense:
                return _answer(
                    503, "policy", "the policy cannot be read: an operator sees why with policy_show"
                )
            except (RedisError, ConnectionInterrupted):
                return _answer(503, "redis", f"Redis gave no answer; {SAFE_AGAIN}")

        return called

    return decorate


def _refusal(wrong: WrongBody) -> HttpResponse:
    answer = _answer(wrong.status, wrong.error, wrong.text)
    if wrong.status == 401:
        answer["WWW-Authenticate"] = "Bearer"
    if wrong.status == 429:
        answer["Retry-After"] = str(tokens.WINDOW_S)
    return answer


def _admitted(request: HttpRequest, *, scope: str) -> ApiToken:
    said = _BEARER.fullmatch(request.headers.get("Authorization", ""))
    token = tokens.find(said[1]) if said else None
    if token is None:
        raise Denied(401, "unauthorized", "a valid token is needed: Authorization: Bearer ...")
    if not tokens.may(token, scope=scope):
        raise Denied(403, "scope", f"this token may not {scope}")
    wait_s = tokens.spend(token)
    if wait_s:
        raise Denied(429, "rate_limit", f"{token.per_minute} requests a minute; wait {wait_s} s")
    return token


@_api(method="POST", scope=tokens.PROPOSE)
def propose(request: HttpRequest, token: ApiToken) -> HttpResponse:
    said = _said(request)
    symbol = said.get("symbol", "")
    if symbol and not tokens.covers(token, symbol):
        raise WrongBody(403, "symbol", "this token does not cover the symbol")
    key, digest = _key(request), _digest(said)
    before = _before(token, key)
    if before is None:
        fields = {name.encode(): text.encode(errors="surrogatepass") for name, text in said.items()}
        origin = Origin(
            way=WAY,
            actor=f"api:{token.name}",
            client=token.name,
            idempotency_key=key,
            body_digest=digest,
        )
        try:
            return _came_to(taking.take_fields(command_client(), fields, origin=origin))
        except IntegrityError:  # the same key at the same moment: one of the two was first
            before = _before(token, key)
            if before is None:
                raise
    if before.body_digest != digest:
        raise WrongBody(409, "idempotency_conflict", "this Idempotency-Key came with another body before")
    return JsonResponse(_shown(before), status=200 if before.plan_id else 422)


@_api(method="GET", scope=tokens.READ)
def outcome(_request: HttpRequest, token: ApiToken, *, number: int) -> HttpResponse:
    """Of the token's own proposals and of its symbols; to a stranger they do not exist."""
    row = Proposal.objects.filter(pk=number).first() if number < 2**63 else None
    if row is None or not (row.client == token.name or tokens.covers(token, row.symbol)):
        return _answer(404, "unknown", "there is no such proposal")
    return JsonResponse(_shown(row))


@never_cache
def schema(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(SCHEMA.read_bytes(), content_type="application/schema+json")


def _said(request: HttpRequest) -> dict[str, str]:
    if request.content_type != "application/json":
        raise WrongBody(415, "content_type", "send application/json")
    if not request.headers.get("Content-Length"):  # WSGI shows nothing of a body whose length is not told
        raise WrongBody(411, "length", "say how long the body is: Content-Length")
    try:
        return body.read(request.read(BYTES_MAX + 1))
    except (UnreadablePostError, RawPostDataException):
        raise WrongBody(400, "not_json", "the body ended early") from None


def _key(request: HttpRequest) -> str:
    key = request.headers.get("Idempotency-Key", "")
    if key and not _KEY.fullmatch(key):
        raise WrongBody(400, "idempotency_key", "an Idempotency-Key has 1 to 80 printable characters")
    return key


def _digest(said: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(said.items())).encode()).hexdigest()


def _before(token: ApiToken, key: str) -> Proposal | None:
    return Proposal.objects.filter(client=token.name, idempotency_key=key).first() if key else None


def _came_to(taken: Taken) -> HttpResponse:
    if taken.came_to is CameTo.NOTHING:
        return JsonResponse({"came_to": CameTo.NOTHING, "text": "it asks for nothing"})
    status = {CameTo.PLAN: 201, CameTo.REFUSED: 422}.get(taken.came_to, 200)
    row = Proposal.objects.filter(mark=taken.mark).first()
    if row is None and taken.came_to is CameTo.REFUSED:  # the key went to another body at this moment
        raise IntegrityError("a refusal that was not recorded")
    if row is None:  # its plan was made by another way in than a proposal
        return JsonResponse({"came_to": taken.came_to, "plan_id": taken.mark}, status=status)
    told = {**_shown(row), "came_to": taken.came_to}
    if taken.plan is not None:
        told |= {"published": True} if taken.published else {"published": False, "text": UNPUBLISHED}
    answer = JsonResponse(told, status=status)
    answer["Location"] = f"/api/proposals/{row.pk}"
    return answer


def _shown(row: Proposal) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": row.pk,
        "at": row.at.isoformat(),
        "came_to": CameTo.REFUSED if row.refusal else CameTo.PLAN,
        "symbol": row.symbol,
        "harvest_action": row.action,
        "kill_score": row.kill_score,
        "reason_codes": row.reason_codes,
        "why": row.why,
        "plan_id": row.plan_id,
    }
    if row.refusal:
        return {**shown, "error": row.refusal, "text": row.refusal_text}
    plan = Plan.objects.filter(plan_id=row.plan_id).first()
    order = Order.objects.filter(plan_id=row.plan_id).first()
    return {**shown, "plan": _plan(plan, order) if plan else None}


def _plan(plan: Plan, order: Order | None) -> dict[str, Any]:
    told = {
        "state": plan.state,
        "error": plan.error,
        "gate_reason": plan.gate_reason,
        "wait_ms": plan.wait_ms,
        "ended_at": plan.ended_at.isoformat() if plan.ended_at else None,
    }
    for name in ("executed_quantity", "average_price", "realized_pnl"):
        value = getattr(order, name, None)
        told[name] = None if value is None else amounts.plain(value)
    return told
