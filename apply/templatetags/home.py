"""The block above the list of apps on the admin's first page."""

from __future__ import annotations

from typing import Any

from django import template
from django.template import Context

from apply.pages import views as pages

register = template.Library()


@register.inclusion_tag("apply/glance.html", takes_context=True)
def glance(context: Context) -> dict[str, Any]:
    return {"perms": context["perms"], **pages.home()}
