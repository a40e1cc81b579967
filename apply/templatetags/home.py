"""The living part of the admin's first page."""

from __future__ import annotations

from django import template
from django.template import Context

from apply.pages import home
from quantum.live import Part

register = template.Library()


@register.simple_tag(takes_context=True)
def glance(context: Context) -> Part:
    return home.part(context["request"])
