"""The kernel's own pages: health, metrics, and the mode that every page shows."""

from __future__ import annotations

import json

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import SimpleLazyObject
from django.views.decorators.cache import never_cache

from quantum import gauges, health, pages
from quantum import metrics as counted

STYLES = ("quantum/tokens.css", "quantum/frame.css", "quantum/pieces.css")


def frame(request: HttpRequest) -> dict[str, object]:
    """For every template: nobody may take paper for live, and everybody finds the other pages."""
    return {
        "styles": STYLES,
        "bar": SimpleLazyObject(lambda: list(pages.bar(request)) if _is_staff(request) else []),
        "find": SimpleLazyObject(lambda: _finder(request)),
        "read_only": settings.WEB_READ_ONLY == "on",
        "mode": settings.APPLY_MODE,
        "mode_words": settings.APPLY_MODE.replace("_", " ").upper(),
        "account": settings.ACCOUNT,
        "favicon": f"quantum/favicon-{settings.APPLY_MODE}.svg",
    }


def _is_staff(request: HttpRequest) -> bool:
    """A page of an error has a request that no middleware has seen."""
    user = getattr(request, "user", None)
    return user is not None and user.is_active and user.is_staff


def _finder(request: HttpRequest) -> str:
    """The list that answers a search from any page."""
    found = [page for page in pages.declared() if page.finds]
    return reverse(f"admin:{found[0].name}") if found and found[0].may(request) else ""


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
