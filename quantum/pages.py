"""Our pages: each floor declares its own from AppConfig.ready(), because no import goes up.

A page says in one place what it is called, who may see it and whether it acts. What it says is enforced here, before
its view runs, so that no view can forget it. Asked for by the web process alone: no role imports views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, HttpResponseNotAllowed
from django.urls import URLPattern, path, reverse
from django.views.decorators.cache import never_cache
from msgspec import Struct

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

View = Callable[..., HttpResponseBase]
"""view(request, *, context, **what the path names); context is what every page of the admin needs."""


class Page(Struct, frozen=True, kw_only=True):
    name: str
    """Of its address: reverse("admin:<name>")."""
    needs: tuple[str, ...] = ()
    """Permissions, all of them. Without them it is neither shown nor answered."""
    words: str = ""
    """In the bar of pages. Nothing: it is reached from another page."""
    place: int = 100
    """In the bar, from the left."""
    key: str = ""
    """Pressed after g it opens this page."""
    finds: bool = False
    """Its list takes ?q= from the search in the header. One page says so."""
    path: str = ""
    """Below /admin/. Nothing: a ModelAdmin answers it already."""
    view: View | None = None
    act: bool = False
    """It changes something: POST only. Any other is GET and HEAD only."""

    def may(self, request: HttpRequest) -> bool:
        return request.user.has_perms(self.needs)


Source = Callable[[], list[Page]]
_sources: list[Source] = []


def register(source: Source) -> None:
    _sources.append(source)
    declared.cache_clear()


@cache
def declared() -> tuple[Page, ...]:
    found = sorted((page for source in _sources for page in source()), key=lambda page: page.place)
    names = [page.name for page in found]
    keys = [page.key for page in found if page.key]
    for kind, said in (("name", names), ("key", keys)):
        if len(said) != len(set(said)):
            raise ValueError(f"two pages have the same {kind}: {sorted(said)}")
    return tuple(found)


def patterns(site: AdminSite) -> list[URLPattern]:
    return [
        path(page.path, site.admin_view(never_cache(_guarded(page, page.view, site))), name=page.name)
        for page in declared()
        if page.view is not None
    ]


def _guarded(page: Page, view: View, site: AdminSite) -> View:
    allowed = ["POST"] if page.act else ["GET", "HEAD"]

    def guarded(request: HttpRequest, **named: Any) -> HttpResponseBase:
        if request.method not in allowed:
            return HttpResponseNotAllowed(allowed)
        if not page.may(request):
            raise PermissionDenied
        # A part has no frame: the list of all records in it costs as much as the rest of the answer.
        context = {} if page.name.endswith("_part") else site.each_context(request)
        return view(request, context=context, **named)

    return guarded


# ---- the bar


class Entry(Struct, frozen=True):
    words: str
    address: str
    key: str
    here: bool


def bar(request: HttpRequest) -> Iterator[Entry]:
    """What this person may open, in order; the one he is in is marked, and home only where he is at home."""
    shown = [(page, reverse(f"admin:{page.name}")) for page in declared() if page.words and page.may(request)]
    home = reverse("admin:index")
    inside = [address for _, address in shown if request.path.startswith(address) and address != home]
    here = max(inside, key=len, default=request.path)
    for page, address in shown:
        yield Entry(page.words, address, page.key, here=address == here)
