"""All that is known of a plan as JSON: what plan_show --json prints."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse

from apply.glance import stopped
from apply.plans import timeline


def page(request: HttpRequest, plan_id: str, *, context: dict[str, Any]) -> HttpResponse:  # noqa: ARG001  a page's
    found = timeline.of(plan_id)
    if found is None:
        raise Http404("no such plan")
    return JsonResponse(stopped.whole(found), json_dumps_params={"indent": 2, "ensure_ascii": False})
