"""Pictures of a result. Needs matplotlib, which the extra ``train`` brings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from salgan_edge.files import writing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from salgan_edge.benchmarks.record import Record, Row

__all__ = ["plot"]

_SIZE, _DPI = (6.4, 4.0), 120


def plot(record: Record, folder: Path) -> list[Path]:
    """Draw what the result has rows for: by threads, by prompts, by bundle, accuracy against latency.

    Args:
        record: the result.
        folder: where the PNG files go.

    Returns:
        The files that were written.

    Raises:
        OutputError: the folder cannot be written.
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    drawn: dict[str, Callable[[Any, Record], bool]] = {
        "threads": lambda axes, found: _lines(axes, found, "threads", "threads", "CPU threads"),
        "prompts": lambda axes, found: _lines(axes, found, "prompts", "prompts", "prompts on one photo"),
        "precision": _bars,
        "accuracy": _accuracy,
    }
    written = []
    for name, draw in drawn.items():
        # Without pyplot there is neither a display to look for nor state to leave behind.
        figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        if not draw(axes, record):
            continue
        axes.set_title(f"{record.machine['cpu']}, {record.machine['allowed_cpus']} CPUs", fontsize=9)
        path = folder / f"{name}.png"
        with writing(path) as temporary:
            figure.savefig(temporary)
        written.append(path)
    return written


def _rows(record: Record, group: str) -> list[Row]:
    return [row for row in record.rows if row.group == group and row.stats is not None]


def _lines(axes: Any, record: Record, group: str, parameter: str, title: str) -> bool:
    """Latency of each name by a parameter: medians, and a band up to the 90th percentile."""
    rows = _rows(record, group)
    for name in dict.fromkeys(row.name for row in rows):
        chosen = [row for row in rows if row.name == name]
        x = [row.parameters[parameter] for row in chosen]
        median = [row.stats.median_ms for row in chosen if row.stats]
        (line,) = axes.plot(x, median, marker="o", label=name)
        axes.fill_between(
            x, median, [row.stats.p90_ms for row in chosen if row.stats], alpha=0.2, color=line.get_color()
        )
    axes.set_xticks(sorted({float(row.parameters[parameter] or 0) for row in rows}))
    axes.set_xlabel(title)
    return _finish(axes, rows)


def _bars(axes: Any, record: Record) -> bool:
    """Latency of each bundle, beside each other for each name and number of threads."""
    rows = _rows(record, "precision")
    kinds = list(dict.fromkeys((row.name, row.parameters["threads"]) for row in rows))
    count = len(record.bundles)
    for number, bundle in enumerate(record.bundles):
        chosen = [row for row in rows if row.parameters["bundle"] == number]
        places = [
            kinds.index((row.name, row.parameters["threads"])) + (number - (count - 1) / 2) * 0.8 / count
            for row in chosen
        ]
        axes.bar(
            places, [row.stats.median_ms for row in chosen if row.stats], 0.8 / count, label=_title(bundle)
        )
    axes.set_xticks(
        range(len(kinds)),
        [f"{name}\n{threads} thread{'s' if threads != 1 else ''}" for name, threads in kinds],
        fontsize=7,
    )
    return _finish(axes, rows)


def _accuracy(axes: Any, record: Record) -> bool:
    """CC on the first test set that all bundles were scored on, against the generator's latency."""
    rows = [row for row in _rows(record, "precision") or _rows(record, "threads") if row.name == "generator"]
    splits = [
        split
        for split in (record.bundles[0]["accuracy"] if record.bundles else {})
        if all("CC" in bundle["accuracy"].get(split, {}) for bundle in record.bundles)
    ]
    if not rows or not splits:
        return False
    for number, bundle in enumerate(record.bundles):
        chosen = [row for row in rows if row.parameters["bundle"] == number]
        if not chosen:
            continue
        times = [row.stats.median_ms for row in chosen if row.stats]
        score = bundle["accuracy"][splits[0]]["CC"]
        axes.plot(times, [score] * len(times), marker="o", label=_title(bundle))
        for row, time in zip(chosen, times, strict=True):
            axes.annotate(
                f"{row.parameters['threads']} thr.",
                (time, score),
                textcoords="offset points",
                xytext=(4, 5),
                fontsize=7,
            )
    axes.set_xlabel("milliseconds of the generator")
    axes.set_ylabel(f"CC, {splits[0]}")
    axes.set_xlim(0, 1.15 * max(row.stats.median_ms for row in rows if row.stats))
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return True


def _title(bundle: Any) -> str:
    return f"{bundle['name']} {bundle['precision']}"


def _finish(axes: Any, rows: list[Row]) -> bool:
    if not rows:
        return False
    axes.set_ylabel("milliseconds")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return True
