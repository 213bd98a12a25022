"""The gate: what a reduced precision may cost, in saliency metrics."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from salgan_edge import metrics
from salgan_edge.evaluate.models import resized
from salgan_edge.result import SaliencyResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from salgan_edge.export.calibration import View

    FloatMap = npt.NDArray[np.float32]

__all__ = ["HUMAN", "SELF", "GateResult", "Judge", "Limits"]

HUMAN = "human maps"
SELF = "the fp32 graphs"

_ALIKE = 0.99


@dataclass(frozen=True)
class Limits:
    """What a variant may lose."""

    cc_drop: float = 0.01
    """Of the mean correlation with the reference."""
    guide_drop: float = 0.02
    """Of the share of text pairs that guide the prediction."""
    peak_move: float = 0.02
    """Distance of a peak from that of the fp32 map, as a share of the photo's diagonal."""
    peak_share: float = 0.95
    """Share of cases in which the peak must stay within it."""

    def halved(self) -> Limits:
        """Stricter limits, for choices made on calibration photos."""
        return Limits(self.cc_drop / 2, self.guide_drop / 2, self.peak_move, (1 + self.peak_share) / 2)


@dataclass(frozen=True)
class GateResult:
    """What a variant costs."""

    reference: str
    """`HUMAN`, or `SELF`: the variant's maps are then compared with those of the fp32 graphs."""
    photos: int
    pairs: int
    """Photos times texts."""
    cc_fp32: float
    """Mean correlation of the fp32 maps with the reference; 1 where they are the reference."""
    cc: float
    """That of the variant."""
    guide_pairs: int
    """Pairs of texts about one photo that `guide` is over."""
    guide_fp32: float | None
    """None where there are no such pairs."""
    guide: float | None
    peaks_within: float
    """Share of cases in which the peak moved by at most `Limits.peak_move`."""
    peak_move: float
    """Move of the peak that 95 % of cases do not exceed, as a share of the diagonal."""
    map_cc: float
    """Mean correlation of the variant's maps with those of the fp32 graphs, whatever the reference."""
    map_cc_least: float
    """The least of them."""
    limits: Limits

    @property
    def cc_drop(self) -> float:
        """Loss of correlation; negative for a gain."""
        return self.cc_fp32 - self.cc

    @property
    def guide_drop(self) -> float:
        """Loss of `guide`; negative for a gain, 0 where it cannot be had."""
        return 0.0 if self.guide is None or self.guide_fp32 is None else self.guide_fp32 - self.guide

    @property
    def failures(self) -> tuple[str, ...]:
        """What was found and what was allowed, for each limit that is missed."""
        # The differences of sums of floats: a loss of exactly the limit passes.
        slack = 1e-9
        failed = []
        # Written so that NaN fails.
        if not self.cc_drop <= self.limits.cc_drop + slack:
            failed.append(f"CC drops by {self.cc_drop:.4f} (at most {self.limits.cc_drop:g})")
        if not self.guide_drop <= self.limits.guide_drop + slack:
            failed.append(f"guide drops by {self.guide_drop:.4f} (at most {self.limits.guide_drop:g})")
        if not self.peaks_within >= self.limits.peak_share - slack:
            failed.append(
                f"the peak stays within {self.limits.peak_move:.0%} of the diagonal in {self.peaks_within:.1%} of cases "
                f"(at least {self.limits.peak_share:.1%})"
            )
        return tuple(failed)

    @property
    def passed(self) -> bool:
        """Whether every limit is kept."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """All figures, for reports."""
        return {
            **asdict(self),
            "cc_drop": self.cc_drop,
            "guide_drop": self.guide_drop,
            "failures": list(self.failures),
            "passed": self.passed,
        }


class Judge:
    """Compares maps of a variant with those of the fp32 graphs, and with human maps where there are any.

    Args:
        views: photos and texts; all with human maps, or none.
        maps: of the fp32 graphs for each view, (texts, h, w).
        limits: what a variant may lose.
    """

    def __init__(self, views: Sequence[View], maps: Sequence[FloatMap], limits: Limits) -> None:
        self.views = tuple(views)
        self.limits = limits
        self._human = bool(views[0].human)
        self._own = [self._compared(view, grid) for view, grid in zip(views, maps, strict=True)]
        self._cc = [
            [metrics.cc(own, human) for own, human in zip(maps, self._reference(n), strict=True)]
            for n, (maps, _) in enumerate(self._own)
        ]
        self._pairs = [
            (n, pair) for n, view in enumerate(views) for pair in view.guided if self._told(n, pair)
        ]

    def judge(self, maps: Sequence[FloatMap]) -> GateResult:
        """What a variant costs whose maps for each view are (texts, h, w), on the views' grid or another."""
        cc: list[float] = []
        agreement: list[float] = []
        moves: list[float] = []
        compared = [self._compared(view, grid) for view, grid in zip(self.views, maps, strict=True)]
        for n, (values, peaks) in enumerate(compared):
            own, own_peaks = self._own[n]
            height, width = self.views[n].photo.shape[:2]
            diagonal = float(np.hypot(width, height))
            agreement += [_cc(one, other) for one, other in zip(values, own, strict=True)]
            cc += [_cc(one, human) for one, human in zip(values, self._reference(n), strict=True)]
            moves += [
                float(np.hypot(x - own_x, y - own_y)) / diagonal
                for (x, y), (own_x, own_y) in zip(peaks, own_peaks, strict=True)
            ]
        return GateResult(
            reference=HUMAN if self._human else SELF,
            photos=len(self.views),
            pairs=len(cc),
            cc_fp32=float(np.mean([value for values in self._cc for value in values])),
            cc=float(np.mean(cc)),
            guide_pairs=len(self._pairs),
            guide_fp32=self._guide([values for values, _ in self._own]),
            guide=self._guide([values for values, _ in compared]),
            peaks_within=float(np.mean(np.array(moves) <= self.limits.peak_move)),
            peak_move=float(np.percentile(moves, 95)),
            map_cc=float(np.mean(agreement)),
            map_cc_least=float(np.min(agreement)),
            limits=self.limits,
        )

    def _compared(self, view: View, grid: FloatMap) -> tuple[list[FloatMap], list[tuple[int, int]]]:
        """Maps as a user gets them, brought to the reference's size, and their peaks in pixels."""
        results = [SaliencyResult.from_grid(view.photo, None, values) for values in grid]
        peaks = [result.peak for result in results]
        if not view.human:
            # The graph's own grid holds all there is to compare.
            return list(grid), peaks
        return [
            resized(result.map, human.shape) for result, human in zip(results, view.human, strict=True)
        ], peaks

    def _reference(self, n: int) -> Sequence[FloatMap]:
        return self.views[n].human if self._human else self._own[n][0]

    def _told(self, n: int, pair: tuple[int, int]) -> bool:
        """Whether a pair of texts says anything: fp32 maps that are alike tell them apart by chance."""
        own = self._own[n][0]
        return self._human or metrics.cc(own[pair[0]], own[pair[1]]) < _ALIKE

    def _guide(self, maps: Sequence[Sequence[FloatMap]]) -> float | None:
        if not self._pairs:
            return None
        cases = []
        for n, (first, second) in self._pairs:
            reference = self._reference(n)
            cases.append((maps[n][first], maps[n][second], reference[first], reference[second]))
        return metrics.guide(cases)


def _cc(one: FloatMap, other: FloatMap) -> float:
    """Correlation; 0 where overflows left no numbers."""
    return metrics.cc(one, other) if np.isfinite(one).all() else 0.0
