"""Compares two results: ratios, and which differences are larger than the noise of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salgan_edge.benchmarks.report import (
    TITLES,
    common_parameters,
    is_busy,
    label,
    table,
    varied_parameters,
)

from salgan_edge.timing import ratio_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from salgan_edge.benchmarks.record import Record, Row

    from salgan_edge.timing import Ratio, Stats

__all__ = ["Comparison", "Difference", "compare", "to_text"]

_LEAST = 0.02
"""A difference below this share of the median counts as none, however small the noise within both runs."""
_WIDTHS = (42, 8, 8, 6, 13, 9, 6)
"""Of the columns of a table, the name's first."""


@dataclass(frozen=True)
class Difference:
    """One row that both results have."""

    group: str
    name: str
    parameters: Mapping[str, Any]
    """Its conditions."""
    before: float
    """Of the first result: median in milliseconds, or another figure."""
    after: float
    noise_before: float | None
    """Median absolute deviation as a share of the median; None for other figures."""
    noise_after: float | None
    ratio: Ratio | None
    """After by before, with its interval; None for other figures, whose noise is not known."""

    @property
    def change(self) -> float:
        """After by before."""
        return self.after / self.before if self.before else 1.0

    @property
    def verdict(self) -> str:
        """``slower``, ``faster``, ``same`` (within the noise), ``more`` or ``less`` for what is no time."""
        if self.ratio is None:
            return "same" if abs(self.change - 1) <= _LEAST else "more" if self.change > 1 else "less"
        if self.ratio.low > 1 and self.ratio.ratio > 1 + _LEAST:
            return "slower"
        return "faster" if self.ratio.high < 1 and self.ratio.ratio < 1 - _LEAST else "same"


@dataclass(frozen=True)
class Comparison:
    """The rows that two results share, and what else differs between them."""

    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]
    """Differences that limit the comparison: machine, bundle, versions, settings."""
    missing: tuple[str, ...]
    """Rows that only one of them has."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "warnings": list(self.warnings),
            "missing": list(self.missing),
            "rows": [
                {
                    "group": found.group,
                    "name": found.name,
                    "parameters": dict(found.parameters),
                    "before": found.before,
                    "after": found.after,
                    "noise_before": found.noise_before,
                    "noise_after": found.noise_after,
                    "ratio": found.change,
                    "low": None if found.ratio is None else found.ratio.low,
                    "high": None if found.ratio is None else found.ratio.high,
                    "verdict": found.verdict,
                }
                for found in self.differences
            ],
        }


def compare(before: Record, after: Record) -> Comparison:
    """Compare the rows that two results share: of one group, name and conditions, soak left out.

    The intervals hold for what varied within each run. Between runs a machine may be slower for minutes.
    """
    first, second = _rows(before), _rows(after)
    differences = [found for key in first if key in second for found in _difference(first[key], second[key])]
    missing = [
        f"{label(f'{key[0]}: {key[1]}', dict(key[2]))} (only in the {which})"
        for rows, others, which in ((first, second, "first"), (second, first, "second"))
        for key in rows
        if key not in others
    ]
    return Comparison(tuple(differences), tuple(_warnings(before, after)), tuple(missing))


def _rows(record: Record) -> dict[tuple[str, str, tuple[tuple[str, Any], ...]], Row]:
    return {
        (row.group, row.name, tuple(sorted(row.parameters.items()))): row
        for row in record.rows
        if row.group != "soak"
    }


def _difference(before: Row, after: Row) -> list[Difference]:
    name, parameters = before.name, before.parameters
    if before.stats is not None and after.stats is not None:
        ratio = None
        if before.stats.median_ms > 0 and before.stats.blocks and after.stats.blocks:
            ratio = ratio_interval(after.stats.blocks, before.stats.blocks, paired=False)
        return [
            Difference(
                before.group,
                name,
                parameters,
                before.stats.median_ms,
                after.stats.median_ms,
                _noise(before.stats),
                _noise(after.stats),
                ratio,
            )
        ]
    found = []
    for key, old in before.values.items():
        new = after.values.get(key)
        if old is not None and new is not None:
            found.append(Difference(before.group, f"{name}: {key}", parameters, old, new, None, None, None))
    return found


def _noise(stats: Stats) -> float:
    return stats.mad_ms / stats.median_ms if stats.median_ms > 0 else 0.0


def _warnings(before: Record, after: Record) -> list[str]:
    found = []
    for what, key in (
        ("machines", "cpu"),
        ("numbers of allowed CPUs", "allowed_cpus"),
        ("governors", "governor"),
    ):
        old, new = before.machine[key], after.machine[key]
        if old != new:
            found.append(
                f"different {what}: {old if old is not None else 'unknown'}, {new if new is not None else 'unknown'}"
            )
    packages = before.machine["packages"], after.machine["packages"]
    changed = sorted(
        name
        for name in packages[0].keys() | packages[1].keys()
        if packages[0].get(name) != packages[1].get(name)
    )
    found += [
        f"different versions of {name}: {packages[0].get(name, 'none')}, {packages[1].get(name, 'none')}"
        for name in changed
    ]
    ids = [
        [f"{bundle['bundle_id']} ({bundle['precision']})" for bundle in record.bundles]
        for record in (before, after)
    ]
    if ids[0] != ids[1]:
        found.append(f"different bundles: {', '.join(ids[0]) or 'none'}; {', '.join(ids[1]) or 'none'}")
    for name, record in (("first", before), ("second", after)):
        if is_busy(record.machine):
            found.append(
                f"the {name} was taken while other programs were running (load {record.machine['load']:.1f})"
            )
    quick = [name for record, name in ((before, "first"), (after, "second")) if record.settings.get("quick")]
    if quick:
        found.append(f"the {' and the '.join(quick)} was taken with --quick: few runs, wide intervals")
    return found


def to_text(comparison: Comparison) -> str:
    """A table of at most 100 columns for each group."""
    lines = [f"warning: {warning}" for warning in comparison.warnings]
    lines += [""] if lines else []
    groups: dict[str, list[Difference]] = {}
    for found in comparison.differences:
        groups.setdefault(found.group, []).append(found)
    for group, differences in groups.items():
        common = common_parameters([found.parameters for found in differences])
        columns = [TITLES[group], "before", "after", "ratio", "95 % interval", "noise", ""]
        lines.append(table(columns, (_cells(found, common) for found in differences), least=_WIDTHS))
    if not comparison.differences:
        lines.append("they share no rows: they were taken with different settings")
    if comparison.missing:
        lines += ["", f"{len(comparison.missing)} rows are in one only, such as {comparison.missing[0]}"]
    counts = {
        word: sum(found.verdict == word for found in comparison.differences)
        for word in ("slower", "faster", "same")
    }
    lines += [
        "",
        f"{counts['slower']} slower, {counts['faster']} faster, {counts['same']} within the noise or {_LEAST:.0%}.",
        "noise: median distance from the median in both runs.",
        "Intervals cover what varied within each run, not a machine that was slower for a while: repeat.",
    ]
    return "\n".join(lines)


def _cells(found: Difference, common: Mapping[str, Any]) -> list[str]:
    interval = noise = ""
    if found.ratio is not None:
        interval = f"{found.ratio.low:.2f}-{found.ratio.high:.2f}"
    if found.noise_before is not None and found.noise_after is not None:
        noise = f"{found.noise_before:.0%} {found.noise_after:.0%}"
    numbers = [f"{found.before:.3f}", f"{found.after:.3f}", f"{found.change:.2f}"]
    name = f"  {label(found.name, varied_parameters(found.parameters, common))}"
    return [name, *numbers, interval, noise, "" if found.verdict == "same" else found.verdict]
