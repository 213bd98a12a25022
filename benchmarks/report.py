"""A result as text of at most 100 columns, as a table for spreadsheets, and as pictures."""

from __future__ import annotations

import contextlib
import csv
import io
import textwrap
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table
from salgan_edge.benchmarks.peers.peer import GENERATOR

from salgan_edge.files import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from salgan_edge.benchmarks.record import Record, Row

    from salgan_edge.timing import Ratio

__all__ = [
    "TITLES",
    "common_parameters",
    "describe",
    "is_busy",
    "label",
    "peers_text",
    "plot",
    "progress_line",
    "table",
    "to_text",
    "varied_parameters",
    "write_csv",
]

TITLES = {
    "load": "Loading, in fresh processes",
    "stage": "Stages",
    "end_to_end": "End to end",
    "threads": "CPU threads",
    "prompts": "Prompts on one photo",
    "batch": "Photos in one run",
    "frame": "Size of the photo",
    "device": "Devices",
    "precision": "Bundles",
    "memory": "Memory",
    "peer": "Peers, in the same run",
    "soak": "Over time",
}
"""Headings of the groups."""

_WIDTH, _NAME, _NUMBER = 100, 33, 7
"""Columns of a text, of a row's name, and of each number."""
_COLUMNS = ("median", "p90", "p99", "spread", "CPU", "per s")
_PARAMETERS = ("bundle", "device", "threads", "prompts", "batch", "width", "height", "second")
_STATS = (
    "runs", "median_ms", "p90_ms", "p99_ms", "mean_ms", "mad_ms", "least_ms", "most_ms", "cpu_ms", "per_second",
)  # fmt: skip
_SIZE, _DPI = (6.4, 4.0), 120
"""Inches of a picture, and its pixels per inch."""


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, least: Sequence[int] = (), width: int = _WIDTH
) -> str:
    """Rows as plain text; the first cell of each is its name.

    Args:
        columns: headings.
        rows: cells; those that are missing at the end are empty.
        least: width of the first columns in letters, so that several tables stand below each other; names are cut to theirs.
        width: of the text, at most.
    """
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        least_width = least[number] if number < len(least) else None
        justify: Literal["left", "right"] = "right" if number else "left"
        grid.add_column(column, min_width=least_width, no_wrap=True, justify=justify)
    for name, *cells in rows:
        grid.add_row(_cut(name, least[0]) if least else name, *cells)
    # A stream of text has neither colours nor the width of a terminal.
    console = Console(
        file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False, color_system=None
    )
    with console.capture() as shown:
        console.print(grid)
    return "\n".join(line.rstrip() for line in shown.get().rstrip("\n").split("\n"))


@contextlib.contextmanager
def progress_line() -> Iterator[Callable[[str, float], None]]:
    """One line on standard error that follows what is measured, on a terminal.

    It is drawn only when the callback is called: a thread that redraws would take time from what is measured.
    """
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda _group, _share: None
        return
    with Live(console=console, auto_refresh=False, transient=True) as line:
        yield lambda group, share: line.update(
            f"measuring: {group.replace('_', ' ')} {share:4.0%}", refresh=True
        )


def describe(record: Record) -> list[str]:
    """Machine, versions and bundles, in a few lines."""
    where = record.machine
    clock = [where["governor"] or "", f"{where['mhz']:.0f} MHz" if where["mhz"] else ""]
    clock += [f"of {where['most_mhz']:.0f}" if where["most_mhz"] else ""]
    clock += [f"{where['celsius']:.0f} °C" if where["celsius"] is not None else ""]
    memory = where["memory_bytes"]
    facts = [
        f"{where['cpu']}, {where['allowed_cpus']} of {where['cores']} CPUs allowed",
        " ".join(word for word in clock if word),
        f"{memory / 1e9:.1f} GB" if memory else "",
        f"{where['board'] or where['system']} {where['architecture']}".strip(),
        where["container"] or "",
    ]
    packages = {"python": where["python"], **where["packages"]}
    lines = [
        "; ".join(fact for fact in facts if fact),
        ", ".join(f"{name} {version}" for name, version in packages.items()),
    ]
    several = len(record.bundles) > 1
    for number, bundle in enumerate(record.bundles):
        lines.append(
            f"bundle {f'{number}: ' if several else ''}{bundle['name']} {bundle['bundle_id']}, {bundle['precision']}, "
            f"{bundle['input_size'][0]}x{bundle['input_size'][1]}, {bundle['bytes'] / 1e6:.1f} MB"
        )
    return lines


def is_busy(where: Mapping[str, Any]) -> bool:
    """Whether other programs used more than a quarter of a machine's CPUs before it was measured."""
    return where["load"] is not None and where["load"] > where["cores"] / 4


def to_text(record: Record) -> str:
    """Tables of all groups."""
    lines = [wrapped for line in describe(record) for wrapped in _wrapped(line)]
    if is_busy(record.machine):
        lines.append(
            f"other programs were running (load {record.machine['load']:.1f}): times are longer than on an idle machine"
        )
    groups: dict[str, list[Row]] = {}
    for row in record.rows:
        groups.setdefault(row.group, []).append(row)
    for group, rows in groups.items():
        lines += ["", *([TITLES[group], peers_text(rows)] if group == "peer" else _group(group, rows))]
    if any(row.stats for row in record.rows):
        lines += [
            "",
            "Milliseconds for one run; spread: median distance from the median; CPU: CPU time of all threads.",
        ]
    if any(row.ratios for row in record.rows):
        lines.append(
            "Ratios, to the first row of the name or as they say: medians over rounds, 95 % intervals."
        )
    lines.append(
        f"{record.date}, {record.seconds:.0f} s{', --quick: few runs' if record.settings.get('quick') else ''}"
    )
    return "\n".join(lines)


def _group(group: str, rows: Sequence[Row]) -> list[str]:
    """The lines of one group; conditions that all its rows share are in the heading."""
    common = common_parameters([row.parameters for row in rows])
    shown = {key: value for key, value in common.items() if key != "bundle" or value != 0}
    if "height" not in shown:
        shown.pop("width", None)
    given = label("", shown)
    title = f"{TITLES[group]}{f' ({given})' if given else ''}"
    timed = [row for row in rows if row.stats is not None]
    if not timed:
        return [title, *(line for row in rows for line in _figures(row, common))]
    short = len(title) <= _NAME
    columns = [title if short else "", *_COLUMNS]
    if any(row.ratios for row in rows):
        columns += ["ratio", "95 %"]
    cells = []
    for row in timed:
        assert row.stats is not None
        stats = row.stats
        numbers = [stats.median_ms, stats.p90_ms, stats.p99_ms, stats.mad_ms, stats.cpu_ms, stats.per_second]
        line = [label(row.name, varied_parameters(row.parameters, common))]
        line += [_number(number) for number in numbers]
        for ratio in _shown_ratios(row, rows).values():
            line += [_plain(ratio.ratio), f"{_plain(ratio.low)}-{_plain(ratio.high)}"]
        cells.append(line)
    lines = [] if short else [title]
    lines.append(table(columns, cells, least=(_NAME, *([_NUMBER] * len(_COLUMNS)))))
    bases = {base for row in timed for base in _shown_ratios(row, rows)}
    lines += [f"  ratio: to {base}" for base in sorted(bases & {rows[0].name})]
    for note in dict.fromkeys(row.note for row in timed if row.note):
        names = [row.name for row in timed if row.note == note]
        about = "" if len(names) == len(timed) else f"{', '.join(dict.fromkeys(names))}: "
        lines += _wrapped(about + note, "  ")
    return lines


def peers_text(rows: Sequence[Row]) -> str:
    """Tables of the group ``peer``, which has columns of its own.

    Args:
        rows: of `salgan_edge.benchmarks.peers.rows.peer_rows`.

    Returns:
        A table for each number of threads, and below what each row is.
    """
    lines: list[str] = []
    for threads in dict.fromkeys(row.parameters["threads"] for row in rows):
        chosen = [row for row in rows if row.parameters["threads"] == threads]
        columns = [
            "1 thread" if threads == 1 else f"{threads} threads",
            "median ms", "p90 ms", "GFLOP/s", "of ceiling", "of the generator's", "95 % interval",
        ]  # fmt: skip
        lines.append(table(columns, map(_peer_cells, chosen), least=(20,)))
        (own,) = [row for row in chosen if row.name == GENERATOR]
        if neck := own.ratios.get("neck"):
            lines.append(f"generator / neck: {neck.ratio:.2f} ({neck.low:.2f} to {neck.high:.2f})")
        lines.append("")
    # A peer can be another for another number of threads.
    notes = dict.fromkeys((row.name, row.note) for row in rows if row.note)
    return "\n".join([*lines, *(line for name, note in notes for line in _wrapped(f"{name}: {note}"))])


def _peer_cells(row: Row) -> list[str]:
    assert row.stats is not None
    speed, share = row.values.get("gflop_per_second"), row.values.get("ceiling_percent")
    cells = [
        row.name,
        f"{row.stats.median_ms:.3f}",
        f"{row.stats.p90_ms:.3f}",
        "" if speed is None else f"{speed:.0f}",
        "" if share is None else f"{share:.0f} %",
    ]
    if ratio := row.ratios.get(GENERATOR):
        cells += [f"{ratio.ratio:.3g} times", f"{ratio.low:.3g} to {ratio.high:.3g}"]
    return cells


def _shown_ratios(row: Row, rows: Sequence[Row]) -> Mapping[str, Ratio]:
    """The ratio that a table shows: none where a row has several, or has it to another row than the first that goes by its bare name."""
    names = {other.name for other in rows[1:]} - {rows[0].name}
    return row.ratios if len(row.ratios) == 1 and not names & row.ratios.keys() else {}


def _figures(row: Row, common: Mapping[str, Any]) -> list[str]:
    """A row of figures that are no times."""
    shown = ", ".join(
        f"{_number(value)} {name.rpartition('_')[2].replace('mb', 'MB')}"
        if value is not None
        else "not known here"
        for name, value in row.values.items()
    )
    return [f"  {label(row.name, varied_parameters(row.parameters, common)):<{_NAME + 8}}{shown}".rstrip()]


def common_parameters(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Conditions that all rows share, in the order they are shown."""
    first = rows[0]
    return {
        key: first[key]
        for key in _PARAMETERS
        if key in first and all(key in row and row[key] == first[key] for row in rows)
    }


def varied_parameters(parameters: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions of a row that not all rows share; both sides of a photo, or none."""
    sized = "width" in common and "height" in common
    return {
        key: value
        for key, value in parameters.items()
        if (key not in common) or (key in ("width", "height") and not sized)
    }


def label(name: str, parameters: Mapping[str, Any]) -> str:
    """A name with conditions.

    >>> label("generator", {"threads": 2, "width": 640, "height": 480})
    'generator, 2 threads, 640x480'
    """
    words = [name] if name else []
    for key in _PARAMETERS:
        value = parameters.get(key)
        if value is None or key == "height":
            continue
        if key == "width":
            words.append(f"{value}x{parameters.get('height', '?')}")
        elif key in ("threads", "prompts"):
            words.append(f"{value} {key if value != 1 else key[:-1]}")
        elif key == "batch":
            words.append(f"{value} {'photos' if value != 1 else 'photo'}")
        elif key == "device":
            words.append(str(value))
        elif key == "second":
            words.append(f"after {value:g} s")
        else:
            words.append(f"{key} {value}")
    return ", ".join(words)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 2]}.."


def _plain(value: float) -> str:
    """A ratio with about three significant digits."""
    if value < 0.0995:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _number(value: float | None) -> str:
    """A number of at most seven characters."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:.0f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.1f}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    """Break a line at spaces."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def write_csv(record: Record, path: Path) -> None:
    """Write a line for each row.

    Raises:
        OutputError: the place cannot be written.
    """
    others = sorted({name for row in record.rows for name in row.values})
    header = [
        "group", "name", *_PARAMETERS, "bundle_id", "precision", *_STATS, "ratio", "ratio_low", "ratio_high", "ratio_to",
        *others, "note",
    ]  # fmt: skip
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header, restval="", lineterminator="\n")
        writer.writeheader()
        for row in record.rows:
            number = row.parameters.get("bundle")
            known = isinstance(number, int) and number < len(record.bundles)
            bundle = record.bundles[int(number or 0)] if known else {}
            values: dict[str, Any] = {
                "group": row.group,
                "name": row.name,
                **row.parameters,
                "bundle_id": bundle.get("bundle_id", ""),
                "precision": bundle.get("precision", ""),
                **({} if row.stats is None else row.stats.to_dict()),
                **row.values,
                "note": row.note,
            }
            for base, ratio in list(row.ratios.items())[:1]:
                found = {"ratio": ratio.ratio, "ratio_low": ratio.low, "ratio_high": ratio.high}
                values |= {key: round(value, 5) for key, value in found.items()} | {"ratio_to": base}
            writer.writerow({key: "" if value is None else value for key, value in values.items()})


def plot(record: Record, folder: Path) -> list[Path]:
    """Draw what the result has rows for: by threads, by prompts, by bundle, accuracy against latency. Needs matplotlib.

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


def _timed(record: Record, group: str) -> list[Row]:
    return [row for row in record.rows if row.group == group and row.stats is not None]


def _lines(axes: Any, record: Record, group: str, parameter: str, title: str) -> bool:
    """Latency of each name by a parameter: medians, and a band up to the 90th percentile."""
    rows = _timed(record, group)
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
    rows = _timed(record, "precision")
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
    rows = [
        row for row in _timed(record, "precision") or _timed(record, "threads") if row.name == "generator"
    ]
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
