"""The kernel's own pages: health, metrics, and the mode that every page shows."""

from __future__ import annotations

import json

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache

from quantum import gauges, health
from quantum import metrics as counted


def mode(_request: HttpRequest) -> dict[str, str]:
    """For every template: nobody may take paper for live."""
    return {
        "mode": settings.APPLY_MODE,
        "mode_words": settings.APPLY_MODE.replace("_", " ").upper(),
        "account": settings.ACCOUNT,
        "favicon": f"quantum/favicon-{settings.APPLY_MODE}.svg",
    }


@never_cache
def healthz(_request: HttpRequest) -> HttpResponse:
    found = health.look()
    text = json.dumps(found.as_data(), indent=2) + "\n"
    return HttpResponse(text, status=200 if found.ok else 503, content_type="application/json")


@never_cache
def metrics(_request: HttpRequest) -> HttpResponse:
    """The counted values of all processes, added up, and the gauges as they are now."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    registry = counted.registry()
    registry.register(gauges.Sources())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
