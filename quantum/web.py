"""The kernel's own pages: health, metrics, and the mode that every page shows."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


def mode(_request: HttpRequest) -> dict[str, str]:
    return {"mode": settings.APPLY_MODE, "account": settings.ACCOUNT}


def healthz(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


def metrics(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)
