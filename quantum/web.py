"""The kernel's own pages: health, metrics, and the mode that every page shows."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from quantum import metrics as counted


def mode(_request: HttpRequest) -> dict[str, str]:
    return {"mode": settings.APPLY_MODE, "account": settings.ACCOUNT}


def healthz(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


def metrics(_request: HttpRequest) -> HttpResponse:
    """The values of all processes, added up."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return HttpResponse(generate_latest(counted.registry()), content_type=CONTENT_TYPE_LATEST)
