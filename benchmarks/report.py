"""A result as text of at most 100 columns, and as a table for spreadsheets."""

from __future__ import annotations

import csv
from collections import Counter
from typing import TYPE_CHECKING, Any

from salgan_edge.files import writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from salgan_edge.benchmarks.record import Record, Row

    from salgan_edge.timing import Ratio

__all__ = [
    "TITLES",
    "common_parameters",
    "describe",
    "is_busy",
    "label",
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

_NAME, _NUMBER = 33, 8
_COLUMNS = ("median", "p90", "p99", "spread", "CPU", "per s")
_PARAMETERS = ("bundle", "device", "threads", "prompts", "batch", "width", "height", "second")
_STATS = (
    "runs", "median_ms", "p90_ms", "p99_ms", "mean_ms", "mad_ms", "least_ms", "most_ms", "cpu_ms", "per_second",
)  # fmt: skip


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
    """Whether other programs wanted more than a quarter of a machine's CPUs before it was measured."""
    return where["load"] is not None and where["load"] > where["cores"] / 4


def to_text(record: Record) -> str:
    """Tables of all groups."""
    lines = [wrapped for line in describe(record) for wrapped in _wrap(line, 100)]
    if is_busy(record.machine):
        lines.append(
            f"other programs were running (load {record.machine['load']:.1f}): times are longer than need be"
        )
    groups: dict[str, list[Row]] = {}
    for row in record.rows:
        groups.setdefault(row.group, []).append(row)
    for group, rows in groups.items():
        lines += ["", *(_peers(rows) if group == "peer" else _table(group, rows))]
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


def _peers(rows: Sequence[Row]) -> list[str]:
    """Peers have columns of their own: how much of the machine each uses."""
    from salgan_edge.benchmarks.peers import text  # noqa: PLC0415 - its names are those of the peers

    return [TITLES["peer"], *text.to_text(rows).splitlines()]


def _table(group: str, rows: Sequence[Row]) -> list[str]:
    """One group: what all its rows share stands in the heading."""
    common = common_parameters([row.parameters for row in rows])
    shown = {key: value for key, value in common.items() if key != "bundle" or value != 0}
    if "height" not in shown:
        shown.pop("width", None)
    given = label("", shown)
    title = f"{TITLES[group]}{f' ({given})' if given else ''}"
    timed = [row for row in rows if row.stats is not None]
    if not timed:
        return [title, *(line for row in rows for line in _figures(row, common))]
    lines = [f"{title:<{_NAME}}" + "".join(f"{name:>{_NUMBER}}" for name in _COLUMNS)]
    if len(title) >= _NAME:
        lines = [title, f"{'':<{_NAME}}" + "".join(f"{name:>{_NUMBER}}" for name in _COLUMNS)]
    if any(row.ratios for row in rows):
        lines[-1] += f"{'ratio':>7}"
    for row in timed:
        assert row.stats is not None
        stats = row.stats
        numbers = [stats.median_ms, stats.p90_ms, stats.p99_ms, stats.mad_ms, stats.cpu_ms]
        text = f"{_cut(label(row.name, varied_parameters(row.parameters, common)), _NAME - 1):<{_NAME}}"
        text += "".join(f"{_number(number):>{_NUMBER}}" for number in numbers)
        text += f"{_number(stats.per_second):>{_NUMBER}}"
        for ratio in _shown_ratios(row, rows).values():
            text += f"{_plain(ratio.ratio):>7} {_plain(ratio.low)}-{_plain(ratio.high)}"
        lines.append(text.rstrip())
    bases = {base for row in timed for base in _shown_ratios(row, rows)}
    lines += [f"  ratio: to {base}" for base in sorted(bases & {rows[0].name})]
    notes = {note: [row.name for row in timed if row.note == note] for note in _notes(timed)}
    for note, names in notes.items():
        about = "" if len(names) == len(timed) else f"{', '.join(dict.fromkeys(names))}: "
        lines += [f"  {line}" for line in _wrap(about + note, 98)]
    return lines


def _shown_ratios(row: Row, rows: Sequence[Row]) -> Mapping[str, Ratio]:
    """Of several, none: the others have theirs to this row. Of rows that go by their bare names, only the first is a base."""
    names = {other.name for other in rows[1:]} - {rows[0].name}
    return row.ratios if len(row.ratios) == 1 and not names & row.ratios.keys() else {}


def _notes(rows: Iterable[Row]) -> list[str]:
    return list(Counter(row.note for row in rows if row.note))


def _figures(row: Row, common: Mapping[str, Any]) -> list[str]:
    """A row that is no time."""
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
    """A ratio with three digits that count."""
    if value < 0.0995:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _number(value: float | None) -> str:
    """A number in seven columns at most."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:.0f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.1f}"


def _wrap(text: str, width: int) -> list[str]:
    """Break a line at spaces."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


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
