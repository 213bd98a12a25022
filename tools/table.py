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
    from collections.abc import Sequence

    from salgan_edge.benchmarks.record import Record, Row

__all__ = ["END", "START", "filled", "main", "render_figures", "render_speed", "shown_number"]

START = "<!-- benchmark {kind}: written by python -m tools table -->"
"""Line before a table; kinds are ``table`` and ``figures``."""
END = "<!-- end of benchmark {kind} -->"

_README = Path(__file__).parents[1] / "README.md"
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
    for kind, render in (("table", render_speed), ("figures", render_figures)):
        start, end = START.format(kind=kind), END.format(kind=kind)
        if start not in text:
            continue
        if end not in text[text.index(start) :]:
            raise InputError(f"the text has the line {start}, but after it no line {end}: put it there")
        body = "\n\n".join(render(record) for record in records)
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n{body}\n\n{end}{rest.partition(end)[2]}"
        found += 1
    if not found:
        raise InputError(
            f"the text has no line {START.format(kind='table')}: put it and {END.format(kind='table')} where the table goes"
        )
    return text


def _heading(record: Record) -> str:
    """What and when, in a sentence."""
    where = record.machine
    cpus = f"{where['allowed_cpus']} CPU{'s' if where['allowed_cpus'] > 1 else ''}"
    packages = where["packages"]
    runtime = next((f"{name} {packages[name]}" for name in packages if name.startswith("onnxruntime")), "")
    name = ", ".join(bundle["name"] for bundle in record.bundles)
    parts = [
        f"Bundle {name}" if name else "",
        f"{where['cpu']}, {cpus}",
        runtime,
        f"Python {where['python']}",
        f"salgan-edge {record.tool}",
    ]
    return f"{'; '.join(part for part in parts if part)}; {record.date[:10]}."


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
        Path, typer.Argument(metavar="[FILE]", help="Markdown with the markers; default: README.md.")
    ] = _README,
    results: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Committed results; default: benchmarks/results.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: exit code 1 where the file is out of date.")
    ] = False,
) -> None:
    """Write the tables of the newest committed results between the markers of a Markdown file."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}; give a Markdown file") from error
    new = filled(text, newest(results or RESULTS))
    if new == text:
        typer.echo(f"{file} is up to date", err=True)
    elif check:
        typer.echo(f"{file} is out of date: python -m tools table", err=True)
        raise typer.Exit(1)
    else:
        with writing(file) as temporary:
            temporary.write_text(new, encoding="utf-8")
        typer.echo(str(file), err=True)
