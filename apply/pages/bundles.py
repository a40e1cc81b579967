"""A plan's proof bundle as a download: the document that a stranger checks, and the same to read."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse

from apply.bundle import making, reading
from apply.bundle.making import Bundle, NoBundle

NEEDS = ("apply.view_plan",)
"""The plan's own page shows the same facts."""


def document(request: HttpRequest, plan_id: str, *, context: dict[str, Any]) -> HttpResponse:  # noqa: ARG001  a page's
    return _download(plan_id, "json")


def readable(request: HttpRequest, plan_id: str, *, context: dict[str, Any]) -> HttpResponse:  # noqa: ARG001  a page's
    return _download(plan_id, "html")


def _download(plan_id: str, kind: str) -> HttpResponse:
    try:
        bundle = making.of(plan_id)
    except NoBundle as none:
        return HttpResponse(
            f"There is no bundle: {none}.\n", status=409, content_type="text/plain; charset=utf-8"
        )
    if bundle is None:
        raise Http404("no such plan")
    body, media = _body(bundle, kind)
    name = f'attachment; filename="plan-{bundle.plan_id}.{kind}"'
    return HttpResponse(body, content_type=media, headers={"Content-Disposition": name})


def _body(bundle: Bundle, kind: str) -> tuple[bytes, str]:
    if kind == "html":
        return reading.html(bundle).encode(), "text/html; charset=utf-8"
    return bundle.raw, "application/json"
