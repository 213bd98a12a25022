"""Tables for people, made of committed results: ``python -m tools table`` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from salgan_edge.benchmarks.peers.peer import CEILING, GENERATOR, TEXT_ENCODE

from salgan_edge.errors import InputError
from salgan_edge.files import writing
from tools.gate import figures
from tools.record import RESULTS, newest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from salgan_edge.benchmarks.record import Record, Row

__all__ = [
    "END",
    "PAGES",
    "START",
    "filled",
    "main",
    "render_figures",
    "render_speed",
    "render_summary",
    "shown_number",
]

START = "<!-- benchmark {kind}: written by python -m tools table -->"
"""Line before a table; kinds are ``summary``, ``table`` and ``figures``."""
END = "<!-- end of benchmark {kind} -->"

_ROOT = Path(__file__).parents[1]
PAGES = (_ROOT / "README.md", _ROOT / "docs" / "explanation" / "speed.md")
"""Pages with tables."""
_NAMES = {
    GENERATOR: "**generator of this package**",
    TEXT_ENCODE: "its text encoder, one new text",
    "paper": "the paper's generator, 256x256",
    "neck": "YOLOX-Nano's backbone and neck alone",
    "clipseg": "CLIPSeg, 352x352",
    "spectral-residual": "spectral residual (knows no text)",
    "fine-grained": "fine-grained saliency (knows no text)",
    CEILING: "matrix product, the machine's ceiling",
}
"""What tables call the rows of the group ``peer``."""
_BUNDLES = {"clip-salgan-edge": "**`default`**", "clip-salgan-edge-small": "**`small`**"}
"""What the summary calls the embedded bundles."""


def filled(text: str, records: Sequence[Record]) -> str:
    """A Markdown text with the tables between its markers made anew.

    Args:
        text: with a line `START` and a line `END` of at least one kind.
        records: of one version, a machine each.

    Raises:
        InputError: there are no markers, an end is missing, or there are no records.
    """
    if not records:
        raise InputError("no results are committed: make them on a quiet machine with python -m tools record")
    found = 0
    kinds: tuple[tuple[str, Callable[[], str]], ...] = (
        ("summary", lambda: render_summary(records)),
        ("table", lambda: "\n\n".join(render_speed(record) for record in records)),
        ("figures", lambda: "\n\n".join(render_figures(record) for record in records)),
    )
    for kind, render in kinds:
        start, end = START.format(kind=kind), END.format(kind=kind)
        if start not in text:
            continue
        if end not in text[text.index(start) :]:
            raise InputError(f"the text has the line {start}, but after it no line {end}: put it there")
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n{render()}\n\n{end}{rest.partition(end)[2]}"
        found += 1
    if not found:
        raise InputError(
            f"the text has no line {START.format(kind='table')}: put it and {END.format(kind='table')} where the table goes"
        )
    return text


def _heading(record: Record, *, bundle: bool = True) -> str:
    """What and when, in a sentence."""
    where = record.machine
    cpus = f"{where['allowed_cpus']} CPU{'s' if where['allowed_cpus'] > 1 else ''}"
    packages = where["packages"]
    runtime = next((f"{name} {packages[name]}" for name in packages if name.startswith("onnxruntime")), "")
    name = ", ".join(bundle["name"] for bundle in record.bundles)
    parts = [
        f"Bundle {name}" if name and bundle else "",
        f"{where['cpu']}, {cpus}",
        runtime,
        f"Python {where['python']}",
        f"salgan-edge {record.tool}",
    ]
    return f"{'; '.join(part for part in parts if part)}; {record.date[:10]}."


def render_summary(records: Sequence[Record]) -> str:
    """Markdown: a row for each record of the first machine, with what a reader asks first."""
    heading = _heading(records[0], bundle=False)
    lines = [
        "| bundle | generator, a photo and a text | the paper's generator takes | a new text | `predict` on one photo, cold | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for record in records:
        if _heading(record, bundle=False) != heading:
            continue
        found = {figure.name: figure.shown(figure.measured) for figure in figures(record)}
        own = next(
            (
                f"{shown_number(row.stats.median_ms)} ms"
                for row in record.rows
                if (row.group, row.name, row.parameters.get("threads")) == ("peer", GENERATOR, 1)
                and row.stats
            ),
            "-",
        )
        cells = [
            ", ".join(_BUNDLES.get(bundle["name"], bundle["name"]) for bundle in record.bundles),
            own,
            found["the paper's generator by this one, 256x256, 1 thread"].replace("times", "times as long"),
            found["text encode, one new prompt, 1 thread"],
            found["salgan-edge predict on one photo, cold"],
            found["peak memory of salgan-edge predict"],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"Medians, the first three columns on one thread; {heading}", "", *lines])


def render_speed(record: Record) -> str:
    """Markdown: the rows of the group ``peer``, those of one number of threads together."""
    lines = [
        _heading(record),
        "",
        "| what | threads | median ms | p90 ms | times the generator's | 95 % interval | GFLOP/s | of the ceiling |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = [row for row in record.rows if row.group == "peer" and row.stats is not None]
    lines += [_line(row) for row in sorted(rows, key=lambda row: int(row.parameters.get("threads") or 0))]
    return "\n".join(lines)


def _line(row: Row) -> str:
    assert row.stats is not None
    # The matrix product has another size for each number of threads: its time says nothing, its rate does.
    ratio = None if row.name == CEILING else row.ratios.get(GENERATOR)
    speed, share = row.values.get("gflop_per_second"), row.values.get("ceiling_percent")
    cells = [
        _NAMES.get(row.name, row.name),
        str(row.parameters.get("threads", "")),
        shown_number(row.stats.median_ms),
        shown_number(row.stats.p90_ms),
        "1" if row.name == GENERATOR else "" if ratio is None else shown_number(ratio.ratio),
        "" if ratio is None else f"{shown_number(ratio.low)} to {shown_number(ratio.high)}",
        "" if speed is None else f"{speed:.0f}",
        "" if share is None else f"{share:.0f} %",
    ]
    return f"| {' | '.join(cells)} |"


def render_figures(record: Record) -> str:
    """Markdown: figures, what was to be reached and what is."""
    lines = [_heading(record), "", "| figure | to reach | measured | |", "|---|---|---|---|"]
    lines += [
        f"| {figure.name} | {figure.wanted} | {figure.shown(figure.measured)} | {figure.verdict} |"
        for figure in figures(record)
    ]
    return "\n".join(lines)


def shown_number(value: float) -> str:
    """Three digits that count.

    >>> shown_number(0.0517), shown_number(2.904), shown_number(190.43)
    ('0.052', '2.90', '190')
    """
    return (
        f"{value:.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
        if value >= 1
        else f"{value:.2g}"
    )


def main(
    file: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Markdown with the markers; default: README.md and docs/explanation/speed.md.",
        ),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Committed results; default: benchmarks/results.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: exit code 1 where a file is out of date.")
    ] = False,
) -> None:
    """Write the tables of the newest committed results between the markers of Markdown files."""
    records = newest(results or RESULTS)
    outdated = False
    for page in file or PAGES:
        try:
            text = page.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {page}: {error}; give a Markdown file") from error
        new = filled(text, records)
        if new == text:
            typer.echo(f"{page} is up to date", err=True)
        elif check:
            typer.echo(f"{page} is out of date: python -m tools table", err=True)
            outdated = True
        else:
            with writing(page) as temporary:
                temporary.write_text(new, encoding="utf-8")
            typer.echo(str(page), err=True)
    if outdated:
        raise typer.Exit(1)
