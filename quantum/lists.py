"""Lists of facts that grow without end: counted and filtered without reading the whole table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.admin import AllValuesFieldListFilter
from django.core.paginator import Paginator
from django.utils.functional import cached_property

COUNTED_MOST = 10_000
LOOKED_AT = 1_000

if TYPE_CHECKING:
    _Paginator = Paginator[Any]
else:
    _Paginator = Paginator


class CountedSoFar(_Paginator):
    """Pages over the newest rows; how many there are beyond would take a look at each of them."""

    @cached_property
    def count(self) -> int:
        return min(self._seen, COUNTED_MOST)

    @property
    def more(self) -> bool:
        return self._seen > COUNTED_MOST

    @cached_property
    def _seen(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: COUNTED_MOST + 1].count())


class NewestValuesFilter(AllValuesFieldListFilter):
    """Offers what stands in the newest rows; an older value is an address away (?symbol=...)."""

    def __init__(
        self, field: Any, request: Any, params: Any, model: Any, model_admin: Any, **path: Any
    ) -> None:
        super().__init__(field, request, params, model, model_admin, **path)
        newest = model._default_manager.order_by("-pk").values_list(path["field_path"], flat=True)[:LOOKED_AT]
        self.lookup_choices: Any = sorted({value for value in newest if value not in (None, "")})
