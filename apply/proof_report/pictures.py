"""A histogram of a report as a picture: every step of it has its column, so that two of them can be compared."""

from __future__ import annotations

from collections.abc import Iterator

from apply.proof_report.report import HISTOGRAM, STEPS_MS, Figure, Part, step_name
from quantum import charts
from quantum.charts import Chart


def is_picture(figure: Figure) -> bool:
    return figure.name.endswith(HISTOGRAM)


def of(part: Part) -> Iterator[tuple[str, Chart]]:
    """(what it is of, picture), of those that have anything to show."""
    for figure in part.figures:
        if is_picture(figure) and isinstance(figure.value, dict) and figure.of:
            what = figure.name.removesuffix(HISTOGRAM)
            yield what, _chart(what, figure.value, figure.of)


def _chart(what: str, counts: dict[str, int], n: int) -> Chart:
    steps = [step_name(step) for step in (*STEPS_MS, None)]
    told = ", ".join(f"{counts[step]} {_in_words(step)}" for step in steps if step in counts)
    return charts.columns(
        [[("bar", counts.get(step, 0))] for step in steps],
        labels=[*(_short(step) for step in STEPS_MS), ">"],
        says=f"{what.capitalize()} in milliseconds, of {n}: {told}",
    )


def _in_words(step: str) -> str:
    return step.replace("<=", "up to").replace(">", "over")


def _short(ms: int) -> str:
    return f"{ms // 1000}s" if ms >= 1000 else f"{ms}"
