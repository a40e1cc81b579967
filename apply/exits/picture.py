"""The backtest as a picture: one panel per path, SVG by hand, readable in light and dark. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from xml.sax.saxutils import escape

from msgspec import Struct

from apply.exits.backtest import Result
from quantum.exchange.types import Kline

WIDTH, MARGIN, GAP = 960, 24, 28
HEAD_HEIGHT, PANEL_HEIGHT = 84, 216
PRICE_HEIGHT, PLOT_TOP, PLOT_HEIGHT = 34, 92, 104
POINTS_MAX = 130
STYLE = """
  svg { background: #ffffff; font-family: system-ui, sans-serif; font-variant-numeric: tabular-nums; }
  .t { fill: #16202c; } .m { fill: #57636f; } .axis { stroke: #c9d1d9; } .price { stroke: #8a96a3; }
  .c0 { stroke: #0b5cad; } .f0 { fill: #0b5cad; } .c1 { stroke: #687480; } .f1 { fill: #57636f; }
  .c2 { stroke: #b04a00; } .f2 { fill: #b04a00; } .c3 { stroke: #7a2e9e; } .f3 { fill: #7a2e9e; }
  .dot { stroke: #ffffff; }
  @media (prefers-color-scheme: dark) {
    svg { background: #10161d; }
    .t { fill: #e8edf2; } .m { fill: #a5b1bd; } .axis { stroke: #38434e; } .price { stroke: #74808c; }
    .c0 { stroke: #6cb0ff; } .f0 { fill: #6cb0ff; } .c1 { stroke: #9aa7b4; } .f1 { fill: #a9b5c1; }
    .c2 { stroke: #ffa45c; } .f2 { fill: #ffa45c; } .c3 { stroke: #d59bf0; } .f3 { fill: #d59bf0; }
    .dot { stroke: #10161d; }
  }
"""
DASHES = ("", "2 3", "7 4", "10 3 2 3")
"""Told apart by dashes too: never by colour alone."""
KINDS = len(DASHES)


class Panel(Struct, frozen=True):
    title: str
    story: str
    klines: Sequence[Kline]
    """From the entry on."""
    results: Sequence[Result]


def draw(panels: Sequence[Panel], *, title: str, note: str) -> str:
    columns = 2 if len(panels) > 1 else 1
    width = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) // columns
    rows = -(-len(panels) // columns)
    height = HEAD_HEIGHT + rows * PANEL_HEIGHT + MARGIN
    drawn = [
        _panel(
            panel,
            left=MARGIN + (at % columns) * (width + GAP),
            top=HEAD_HEIGHT + at // columns * PANEL_HEIGHT,
            width=width,
        )
        for at, panel in enumerate(panels)
    ]
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        _text(MARGIN, 34, title, "t", size=18, weight=600),
        _text(MARGIN, 56, note, "m", size=12),
    ]
    return "\n".join([*head, *drawn, "</svg>", ""])


def _panel(panel: Panel, *, left: int, top: int, width: int) -> str:
    worths = [worth for result in panel.results for worth in result.worth]
    scale = _Scale(low=min([Decimal(0), *worths]), high=max([Decimal(0), *worths]))
    plot_top = top + PLOT_TOP
    parts = [
        _text(left, top + 14, panel.title, "t", size=13, weight=600),
        _text(left + 8 * len(panel.title) + 14, top + 14, panel.story, "m", size=11),
        _profits(panel.results, left=left, top=top + 32),
        _price(panel.klines, left=left, top=top + 42, width=width),
        _rule(left, width, plot_top + scale.at(Decimal(0))),
    ]
    for at, result in reversed(list(enumerate(panel.results))):
        parts += [_line(result.worth, scale, at, left=left, top=plot_top, width=width)]
    for at, result in reversed(list(enumerate(panel.results))):
        parts += _dots(panel, result, scale, at, left=left, top=plot_top, width=width)
    parts += [
        _text(
            left + width,
            plot_top + scale.at(scale.high) - 5,
            f"{scale.high:+.1f} USD",
            "m",
            size=10,
            end=True,
        ),
        _text(left + width, plot_top + scale.at(scale.low) + 12, f"{scale.low:+.1f}", "m", size=10, end=True),
    ]
    return "\n".join(parts)


class _Scale(Struct, frozen=True):
    low: Decimal
    high: Decimal

    def at(self, value: Decimal) -> Decimal:
        spread = self.high - self.low
        return PLOT_HEIGHT * (self.high - value) / spread if spread else Decimal(PLOT_HEIGHT) / 2


def _profits(results: Sequence[Result], *, left: int, top: int) -> str:
    """Name, dash and profit of each: the legend."""
    parts, x = [], left
    for at, result in enumerate(results):
        kind = at % KINDS
        said = f"{result.scorer} {result.profit:+.1f}"
        parts.append(_path(f"M{x} {top - 4}h22", f"c{kind}", DASHES[kind], thick=2))
        parts.append(_text(x + 28, top, said, f"f{kind}", size=12, weight=600))
        x += 50 + 8 * len(said)
    return "\n".join(parts)


def _price(klines: Sequence[Kline], *, left: int, top: int, width: int) -> str:
    closes = [one.closed for one in klines]
    low, spread = min(closes), (max(closes) - min(closes)) or Decimal(1)
    heights = [PRICE_HEIGHT * (1 - (close - low) / spread) for close in closes]
    return _path(_points(heights, left=left, top=top, width=width), "price", "", thick=1)


def _line(worth: Sequence[Decimal], scale: _Scale, at: int, *, left: int, top: int, width: int) -> str:
    kind = at % KINDS
    heights = [scale.at(value) for value in worth]
    return _path(_points(heights, left=left, top=top, width=width), f"c{kind}", DASHES[kind], thick=2)


def _dots(
    panel: Panel, result: Result, scale: _Scale, at: int, *, left: int, top: int, width: int
) -> list[str]:
    """One at every exit."""
    places = {kline.close_ms: place for place, kline in enumerate(panel.klines)}
    found = []
    for one in result.exits:
        place = places[one.at_ms]
        x = _x(place, len(panel.klines), left=left, width=width)
        y = top + scale.at(result.worth[place])
        found.append(
            f'<circle class="f{at % KINDS} dot" cx="{x:.1f}" cy="{y:.1f}" r="4" stroke-width="1.5"/>'
        )
    return found


def _points(heights: Sequence[Decimal], *, left: int, top: int, width: int) -> str:
    every = -(-len(heights) // POINTS_MAX)
    chosen = [*range(0, len(heights) - 1, every), len(heights) - 1]
    points = [
        f"{_x(place, len(heights), left=left, width=width):.1f} {top + heights[place]:.1f}"
        for place in chosen
    ]
    return "M" + "L".join(points)


def _x(place: int, count: int, *, left: int, width: int) -> Decimal:
    return left + Decimal(width) * place / max(count - 1, 1)


def _path(points: str, kind: str, dashes: str, *, thick: int) -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path class="{kind}" d="{points}" fill="none" stroke-width="{thick}" stroke-linejoin="round"{dashed}/>'


def _rule(left: int, width: int, y: Decimal) -> str:
    return f'<path class="axis" d="M{left} {y:.1f}h{width}" stroke-width="1"/>'


def _text(
    x: Decimal | int,
    y: Decimal | int,
    text: str,
    kind: str,
    *,
    size: int,
    weight: int = 400,
    end: bool = False,
) -> str:
    anchor = ' text-anchor="end"' if end else ""
    place = f'x="{x}" y="{y:.1f}" font-size="{size}" font-weight="{weight}"{anchor}'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'
