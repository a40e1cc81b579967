"""Facts in the admin: read, searched and linked, never added, changed or deleted."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Collection
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from quantum import amounts, clock
from quantum.fields import AmountField
from quantum.lists import CountedSoFar, NewestValuesFilter

if TYPE_CHECKING:
    _Admin = admin.ModelAdmin[models.Model]
else:
    _Admin = admin.ModelAdmin

AGEING_S = 5
NOTHING = SafeString('<span class="quiet">—</span>')
Column = Callable[[Any], str]
_PLAN_ID = re.compile(r"[0-9a-f]{16}")


class ReadOnlyAdmin(_Admin):
    """A list and a page per row, for whoever has the view permission. Every other act is refused with 403.

    In list_display, times, amounts and plan ids are shown the same way everywhere; the first
    column leads to the row's own page.
    """

    actions = None
    list_per_page = 50
    paginator = CountedSoFar
    show_full_result_count = False  # a second count over the whole table, for one word on the page
    change_list_template = "quantum/fact_list.html"
    page_template = "quantum/fact.html"
    empty_says = ""
    """What an empty list means, and what makes its first row."""
    hidden: Collection[str] = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Django lets the change permission stand for this one; a fact is not changed by anybody."""
        return request.user.has_perm(f"{self.opts.app_label}.view_{self.opts.model_name}")

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        first, *others = super().get_list_display(request)
        return [self._column(first, leads=True), *(self._column(name, leads=False) for name in others)]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        """A text has the values of the newest rows to choose from: all of them would be a look at every row."""
        texts = {
            field.name
            for field in self.opts.concrete_fields
            if isinstance(field, models.CharField) and not field.choices
        }
        return [
            (name, NewestValuesFilter) if name in texts else name for name in super().get_list_filter(request)
        ]

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        """A whole plan id has its index; asked together with the other columns it would have none."""
        plan_id = search_term.strip().lower()
        if _PLAN_ID.fullmatch(plan_id) and any(
            field.name == "plan_id" for field in self.opts.concrete_fields
        ):
            return queryset.filter(plan_id=plan_id), False
        return super().get_search_results(request, queryset, search_term)

    def _column(self, name: Any, *, leads: bool) -> Any:
        field = next((field for field in self.opts.concrete_fields if field.name == name), None)
        if isinstance(field, AmountField):
            return _described(lambda row: shown(row, field), field)
        if isinstance(field, models.DateTimeField):
            return _described(lambda row: shown(row, field), field, ordering=field.name)
        if name == "plan_id" and not leads:
            return _described(lambda row: plan_link(row.plan_id), "plan", ordering="plan_id")
        return name

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        _refuse_post(request)
        title = capfirst(str(self.opts.verbose_name_plural))
        context = {"title": title, "empty_says": self.empty_says, **(extra_context or {})}
        return super().changelist_view(request, context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """A page without a form: there is nothing to fill in and nothing to send."""
        _refuse_post(request)
        row = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        context = {
            **self.admin_site.each_context(request),
            "title": str(row),
            "opts": self.opts,
            "fact": row,
            **self.page_context(row),
            **(extra_context or {}),
        }
        return TemplateResponse(request, self.page_template, context)

    def page_context(self, row: Any) -> dict[str, Any]:
        return {"rows": rows(row, skip=self.hidden)}


def _refuse_post(request: HttpRequest) -> None:
    if request.method not in ("GET", "HEAD"):
        raise PermissionDenied


def _described(show: Column, named: models.Field[Any, Any] | str, *, ordering: str | None = None) -> Column:
    """Amounts have no ordering: SQLite keeps them as text, and 10 would come before 9."""
    words = named if isinstance(named, str) else str(named.verbose_name)
    described: Column = admin.display(description=words, ordering=ordering)(show)
    return described


def rows(row: models.Model, *, skip: Collection[str] = (), blank: bool = True) -> list[tuple[str, str]]:
    """Every field of a row as label and shown value; without the empty ones where blank is False."""
    fields = [field for field in row._meta.concrete_fields if field.name not in ("id", *skip)]
    if not blank:
        fields = [field for field in fields if getattr(row, field.attname) not in (None, "")]
    return [(capfirst(str(field.verbose_name)), shown(row, field)) for field in fields]


def shown(row: models.Model, field: models.Field[Any, Any]) -> str:
    value = getattr(row, field.attname)
    if value is None or value == "":
        return NOTHING
    if field.name == "plan_id":
        return plan_link(value)
    if isinstance(field, models.JSONField):
        return payload(json.dumps(value, indent=2, ensure_ascii=False))
    if isinstance(field, models.TextField):
        return payload(str(value))
    return format_html("{}", plain(value))


def plain(value: object) -> object:
    """One way to write an amount, a time and a truth on every page."""
    if isinstance(value, Decimal):
        return format_html('<span class="num">{}</span>', amounts.plain(value))
    if isinstance(value, dt.datetime):
        return moment(value)
    return ("yes" if value else "no") if isinstance(value, bool) else value


def moment(at: dt.datetime) -> SafeString:
    """Milliseconds and zone: two logs can only be laid side by side when both say them."""
    utc = at.astimezone(dt.UTC)
    return format_html(
        '<time datetime="{}">{} <b>{}</b> UTC</time>',
        utc.isoformat(),
        f"{utc:%Y-%m-%d}",
        f"{utc:%H:%M:%S}.{utc.microsecond // 1000:03}",
    )


def age(at: dt.datetime) -> str:
    seconds = max(0, int((clock.now() - at).total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def tone_of_age(age_s: Decimal) -> str:
    """Of what the exchange said: what is older than AGEING_S is not shown green, long before it counts for nothing."""
    if abs(age_s) > settings.P33_STALE_THRESHOLD_SEC:
        return "bad"
    return "warn" if abs(age_s) > AGEING_S else "good"


def payload(text: str) -> SafeString:
    """tabindex: a box that scrolls must be reachable without a mouse."""
    return format_html('<pre class="payload" tabindex="0">{}</pre>', text)


def plan_link(plan_id: str) -> str:
    return format_html('<a class="id" href="{}">{}</a>', plan_url(plan_id), plan_id) if plan_id else NOTHING


def plan_url(plan_id: str) -> str:
    """Every floor knows a plan by its id; where its page is, this name says (no import goes up)."""
    return reverse("admin:apply_plan_change", args=[plan_id])


def chip(text: str, *, tone: str) -> SafeString:
    """A word with a sign and a colour; the sign and the word say it without the colour."""
    signs = {"good": "✓", "bad": "✕", "warn": "!", "calm": "·"}
    return format_html(
        '<span class="chip {}"><span aria-hidden="true">{}</span> {}</span>', tone, signs[tone], text
    )
