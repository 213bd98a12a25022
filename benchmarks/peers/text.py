"""Rows of peers as a table of at most 100 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from salgan_edge.benchmarks.peers.choose import GENERATOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salgan_edge.benchmarks.record import Row

__all__ = ["to_text"]

_NAME = 20
_RATIO = "of the generator's"


def to_text(rows: Sequence[Row]) -> str:
    """A table for each number of threads, and below what each row is.

    Args:
        rows: of `salgan_edge.benchmarks.peers.rows.peer_rows`.
    """
    lines: list[str] = []
    for threads in dict.fromkeys(row.parameters["threads"] for row in rows):
        title = "1 thread" if threads == 1 else f"{threads} threads"
        columns = f"{'median ms':>10}{'p90 ms':>9}{'GFLOP/s':>9}{'of ceiling':>12}{_RATIO:>20}"
        lines.append(f"{title:<{_NAME}}{columns}   95 % interval")
        lines += [_line(row) for row in rows if row.parameters["threads"] == threads]
        (own,) = [row for row in rows if row.parameters["threads"] == threads and row.name == GENERATOR]
        if neck := own.ratios.get("neck"):
            lines.append(f"generator / neck: {neck.ratio:.2f} ({neck.low:.2f} to {neck.high:.2f})")
        lines.append("")
    # A peer can be another for another number of threads.
    notes = dict.fromkeys((row.name, row.note) for row in rows if row.note)
    return "\n".join([*lines, *(f"{name}: {note}" for name, note in notes)])


def _line(row: Row) -> str:
    assert row.stats is not None
    speed, share = row.values.get("gflop_per_second"), row.values.get("ceiling_percent")
    ratio = row.ratios.get(GENERATOR)
    text = f"{row.name[: _NAME - 1]:<{_NAME}}{row.stats.median_ms:>10.3f}{row.stats.p90_ms:>9.3f}"
    text += f"{'' if speed is None else f'{speed:.0f}':>9}{'' if share is None else f'{share:.0f} %':>12}"
    if ratio is not None:
        text += f"{f'{ratio.ratio:.3g} times':>20}   {ratio.low:.3g} to {ratio.high:.3g}"
    return text.rstrip()
