"""The page Proof in a browser: its pictures can be read, light and dark, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from django.urls import reverse

from tests.flow.test_home import orders, plans

pytestmark = pytest.mark.usefixtures("redis")
READABLE_PX = 9
"""The least height of letters in a picture."""


@pytest.mark.parametrize(("theme", "width_px"), [("light", 1280), ("dark", 390), ("light", 390)])
def test_the_pictures_of_waits_can_be_read(visit: Callable[..., Any], theme: str, width_px: int) -> None:
    for at, wait_ms in enumerate((1, 4, 8, 8, 8, 15, 15, 30, 40, 90, 700, 6000)):
        orders(plans(3, first=100 * (at + 1), wait_ms=wait_ms), after_ms=wait_ms + 12)
    visitor = visit(theme=theme, width_px=width_px)
    page = visitor.open(reverse("admin:apply_proof"))
    pictures = page.locator("svg.chart")
    assert pictures.count() == 2
    assert not visitor.scrolls_sideways()
    for at in range(2):
        labels = pictures.nth(at).locator("text").all()
        boxes = [box for each in labels if (box := each.bounding_box())]
        assert len(boxes) == 13
        assert min(box["height"] for box in boxes) >= READABLE_PX
        assert all(one["x"] + one["width"] <= other["x"] for one, other in pairwise(boxes))
