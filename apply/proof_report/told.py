"""A report in words: lines for a terminal, Markdown, one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from django.template.loader import render_to_string

from apply.proof_report import pictures, plans
from apply.proof_report.report import Figure, Part, Report
from quantum.log import safe

WORDS = {"clean": "CLEAN", "wrong": "WRONG", "cannot tell": "CANNOT TELL"}


def headline(report: Report) -> str:
    found = f", {report.wrongs} found" if report.wrongs else ""
    found += ", no exit in this span" if plans.NO_EXIT in report.doubts() else ""
    return f"{WORDS[report.outcome]}{found}: {report.mode.replace('_', ' ').upper()} {report.account}"


def span_of(report: Report) -> str:
    return f"{report.span.since:%Y-%m-%d %H:%M:%S} to {report.span.until:%Y-%m-%d %H:%M:%S} UTC"


def signatures_told(verified: int | None) -> str:
    if verified is None:
        return "Signatures were not verified: proof --signatures does"
    return f"Signatures of {verified} permits were verified"


def lines(report: Report) -> Iterator[str]:
    yield headline(report)
    yield f"{span_of(report)}, version {report.version}, computed in {report.took_s:.1f} s"
    yield signatures_told(report.signatures)
    for part in report.parts:
        yield f"{part.title}: {part.outcome}"
        yield from (f"  {figure.name:<28}{figure.told}{_of(figure)}" for figure in part.figures)
        yield from (f"  {text}" for text in _problems(part))


def markdown(report: Report) -> str:
    """Texts of strangers (client ids of orders) stand in it: as code, where nothing is read as markup."""
    made = [
        f"# Proof: {headline(report)}",
        "",
        f"{span_of(report)}, version `{report.version}`. {signatures_told(report.signatures)}.",
        "",
    ]
    for part in report.parts:
        made += [
            f"## {part.title}: {part.outcome}",
            "",
            "| figure | value | computed from |",
            "|---|---|---|",
        ]
        made += [f"| {each.name} | {_cell(each.told)} | {each.of} |" for each in part.figures]
        made += ["", *(f"- `{text.replace('`', chr(39))}`" for text in _problems(part)), ""]
    return "\n".join(made)


def html(report: Report) -> str:
    return render_to_string("apply/proof_alone.html", shown(report))


def shown(report: Report) -> dict[str, object]:
    """For templates."""
    parts = [
        {
            "part": part,
            "figures": [figure for figure in part.figures if not pictures.is_picture(figure)],
            "pictures": list(pictures.of(part)),
            "outcome": part.outcome.value,
            "problems": _problems(part),
        }
        for part in report.parts
    ]
    return {
        "report": report,
        "headline": headline(report),
        "span": span_of(report),
        "parts": parts,
        "signatures": signatures_told(report.signatures),
    }


def _of(figure: Figure) -> str:
    return f"   (of {figure.of})" if figure.value is not None and str(figure.value) != str(figure.of) else ""


def _problems(part: Part) -> list[str]:
    told = [f"{each.wrong}: {safe(each.text)}" for each in part.findings]
    told += [f"and {part.more_findings} more"] if part.more_findings else []
    return told + [f"cannot tell: {safe(doubt)}" for doubt in part.doubts]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
