"""Has the generator become slower against its peers? Ratios measured now beside the committed ones.

Milliseconds are never compared: they are those of a machine and an hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salgan_edge.benchmarks.peers.choose import OWN
from salgan_edge.benchmarks.peers.rows import CEILING
from salgan_edge.benchmarks.report import label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salgan_edge.benchmarks.record import Record

    from salgan_edge.timing import Ratio

__all__ = ["GROUPS", "TOLERANCE", "Check", "better", "checks", "compared_groups", "to_text"]

TOLERANCE = 0.15
"""Share by which a ratio may be greater than the committed one."""
GROUPS = ("end_to_end", "prompts", "peer")
"""Groups of rows whose ratios are compared; of ``peer``, those of the bundle itself to the peers."""

_NAME = 54
_Key = tuple[str, str, tuple[tuple[str, Any], ...], str]


@dataclass(frozen=True)
class Check:
    """One ratio of times: lower is better."""

    group: str
    name: str
    """What by what."""
    committed: Ratio
    measured: Ratio
    tolerance: float

    @property
    def change(self) -> float:
        """The measured ratio by the committed one."""
        return self.measured.ratio / self.committed.ratio

    @property
    def verdict(self) -> str:
        """``worse`` and ``better`` are beyond the tolerance, and neither interval holds the other's ratio.

        ``noisy`` is beyond the tolerance, but within an interval: measure again, on a quieter machine.
        """
        if 1 / (1 + self.tolerance) <= self.change <= 1 + self.tolerance:
            return "same"
        apart = not (self.measured.low <= self.committed.high and self.committed.low <= self.measured.high)
        if not apart:
            return "noisy"
        return "worse" if self.change > 1 else "better"


def checks(committed: Record, measured: Record, tolerance: float = TOLERANCE) -> list[Check]:
    """All ratios that both records have.

    Args:
        committed: what is kept with the code.
        measured: what was found now.
        tolerance: share by which a ratio may be greater.
    """
    before, after = _ratios(committed), _ratios(measured)
    return [
        Check(key[0], _name(key), before[key], after[key], tolerance)
        for key in before
        if key in after and before[key].ratio > 0 and after[key].ratio > 0
    ]


def compared_groups(record: Record) -> tuple[str, ...]:
    """Those of `GROUPS` of which a record has ratios to compare."""
    found = {key[0] for key in _ratios(record)}
    return tuple(group for group in GROUPS if group in found)


def better(first: Sequence[Check], second: Sequence[Check]) -> list[Check]:
    """Of two measurements the lower of each ratio: what happened once only was the machine's doing."""
    others = {(check.group, check.name): check for check in second}
    return [
        min(check, others.get((check.group, check.name), check), key=lambda found: found.change)
        for check in first
    ]


def _ratios(record: Record) -> dict[_Key, Ratio]:
    found: dict[_Key, Ratio] = {}
    for row in record.rows:
        if row.group not in GROUPS or (row.group == "peer" and row.name not in OWN):
            continue
        if row.parameters.get("bundle", 0) != 0:
            continue
        shown = tuple(sorted((k, v) for k, v in row.parameters.items() if k not in ("bundle", "device")))
        for base, ratio in row.ratios.items():
            if base == CEILING:
                continue  # its size may be another
            found[row.group, row.name, shown, base] = ratio
    return found


def _name(key: _Key) -> str:
    return f"{label(key[1], dict(key[2]))} / {key[3]}"


def to_text(found: Sequence[Check]) -> str:
    """A table of at most 100 columns, and what it comes to."""
    lines = [f"{'ratio of times':<{_NAME}}{'committed':>10}{'now':>10}  {'95 % interval':<19}"]
    for check in found:
        name = check.name if len(check.name) < _NAME else f"{check.name[: _NAME - 3]}.."
        interval = f"{check.measured.low:.3g}-{check.measured.high:.3g}"
        verdict = "" if check.verdict == "same" else check.verdict
        lines.append(
            f"{name:<{_NAME}}{check.committed.ratio:>10.3g}{check.measured.ratio:>10.3g}  {interval:<19}{verdict}".rstrip()
        )
    counts = {
        word: sum(check.verdict == word for check in found) for word in ("worse", "better", "noisy", "same")
    }
    tolerance = found[0].tolerance if found else TOLERANCE
    lines += [
        "",
        f"{counts['worse']} worse and {counts['better']} better by more than {tolerance:.0%} and beyond the noise",
        f"{counts['noisy']} differ as much, but within the noise; {counts['same']} are the same",
    ]
    if counts["better"] and not counts["worse"]:
        lines.append(
            "Commit the new results with python -m salgan_edge.benchmarks record, so that they are kept."
        )
    return "\n".join(lines)
