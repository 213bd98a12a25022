"""What an evaluation found, as frozen values that can be written as JSON, and the intervals of its means.

The machine-readable output of ``salgan-edge evaluate --json`` is `Evaluation.to_dict`, with `PromptEvaluation.to_dict`
for each table of texts under ``prompts``: the fields below under their own names, nested as they are here. Fields may
be added; a change of meaning, name or nesting raises ``format_version``. Numbers that cannot be had (a metric that needs
fixations, on a data set of maps alone) are ``null``.

Intervals come from resampling photos. All texts of a photo are drawn together: predictions and human maps of one photo
depend on each other, so pairs drawn one by one would make intervals too narrow. The same seed, photos and number of
resamples give the same draws everywhere, so two models scored on the same photos are compared draw by draw.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from salgan_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from salgan_edge.gaze.phrases import Box

    Floats = npt.NDArray[np.float64]

__all__ = [
    "ABSENT", "ALL", "BIG", "FORMAT_VERSION", "GROUPED", "LARGEST", "MARGIN", "NOUN_CASES", "SMALL", "Absence", "Absent", "Bootstrap",
    "Case", "DataScores", "Estimate", "Evaluation", "Interval", "ModelScores", "Noun", "Pointing", "PromptEvaluation", "PromptRow",
    "PromptScores", "Row", "Separation", "in_order", "median", "separation",
]  # fmt: skip

FORMAT_VERSION = 1
"""Of `Evaluation.to_dict` and `PromptEvaluation.to_dict`."""

ALL = "all"
"""The row of all pairs or cases."""

GROUPED = "general+whole"
"""The row of the paper's "Type 4 & Type 1"."""

MARGIN = 0.02
"""Share of the photo's width and height by which a box is widened on each side in the pointing game on texts."""

LARGEST = 0.6
"""Share of the photo beyond which a row's boxes are no target of that game."""

SMALL, BIG = 0.02, 0.15
"""Boxes that cover less of the photo are small, and more are large."""

NOUN_CASES = 3
"""Cases that a noun needs to be listed."""

ABSENT = 3
"""Texts of other photos that each photo is asked."""

_TAILS = (2.5, 97.5)

Interval = tuple[float, float, float]
"""A value with the ends of its 95 % interval by the bootstrap over photos."""


# Intervals


@dataclass(frozen=True)
class Estimate:
    """A mean over photos with its bootstrap interval."""

    mean: float
    low: float
    """Lower end of the 95 % confidence interval."""
    high: float
    """Upper end."""


@dataclass(frozen=True)
class Bootstrap:
    """Percentile bootstrap (Efron 1979) of a mean over values that come in photos."""

    resamples: int = 1000
    """At least 1; 1 gives an interval of no meaning, quickly."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.resamples < 1:
            raise ValueError(f"resamples is {self.resamples}: at least 1 was expected")

    def draws(self, photos: int) -> npt.NDArray[np.int64]:
        """How often each photo is drawn, (resamples, photos)."""
        chances = np.full(photos, 1 / photos)
        return np.random.default_rng(self.seed).multinomial(photos, chances, size=self.resamples)

    def estimate(self, values: npt.ArrayLike, photos: Sequence[str]) -> Estimate | None:
        """Mean of `values` with its 95 % interval.

        Args:
            values: one number for each pair (n,); NaN for a pair without one.
            photos: the photo of each pair.

        Returns:
            None if every value is NaN, or there is none.
        """
        numbers = np.asarray(values, np.float64)
        known = ~np.isnan(numbers)
        if not known.any():
            return None
        _, index = np.unique(np.asarray(photos)[known], return_inverse=True)
        sums = np.bincount(index, numbers[known])
        counts = np.bincount(index).astype(np.float64)
        drawn = self.draws(len(sums))
        means = (drawn @ sums) / (drawn @ counts)
        low, high = np.percentile(means, _TAILS)
        return Estimate(float(numbers[known].mean()), float(low), float(high))


def _weights(photos: Sequence[str], bootstrap: Bootstrap) -> npt.NDArray[np.int64]:
    """How often each value counts, (1 + resamples, n): once each in the first row, then as its photo is drawn."""
    names, index = np.unique(np.asarray(photos), return_inverse=True)
    drawn = bootstrap.draws(len(names))[:, index]
    return np.concatenate([np.ones((1, len(photos)), np.int64), drawn])


def median(values: npt.ArrayLike, photos: Sequence[str], bootstrap: Bootstrap) -> Interval | None:
    """Median of values (n,) with its interval by photo; NaN is left out, None where nothing is left."""
    numbers = np.asarray(values, np.float64)
    known = ~np.isnan(numbers)
    if not known.any():
        return None
    order = np.argsort(numbers[known], kind="stable")
    ordered = numbers[known][order]
    counts = _weights(np.asarray(photos)[known].tolist(), bootstrap)[:, order].cumsum(axis=1)
    half = counts[:, -1:] / 2
    # Half of the values lie below; where a value ends at the half, the middle to the next one.
    lower, upper = (counts >= half).argmax(axis=1), (counts > half).argmax(axis=1)
    return _interval((ordered[lower] + ordered[upper]) / 2)


def separation(
    present: Sequence[float],
    absent: Sequence[float],
    photos_present: Sequence[str],
    photos_absent: Sequence[str],
    bootstrap: Bootstrap,
) -> Interval:
    """Area under the ROC curve by which a measure tells present from absent texts, with its interval by photo.

    It is the chance that a present text has more of the measure than an absent one, ties counting
    half (Mann and Whitney). Both sides need at least one value.
    """
    values = np.asarray([*present, *absent], np.float64)
    order = np.argsort(values, kind="stable")
    weights = _weights([*photos_present, *photos_absent], bootstrap)[:, order]
    positive = order < len(present)
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) > 0])
    above = np.add.reduceat(weights * positive, starts, axis=1).astype(np.float64)
    below = np.add.reduceat(weights * ~positive, starts, axis=1).astype(np.float64)
    won = (above * (below.cumsum(axis=1) - below / 2)).sum(axis=1)
    pairs = above.sum(axis=1) * below.sum(axis=1)
    # A draw of photos without a text of one side says nothing.
    return _interval(won[pairs > 0] / pairs[pairs > 0])


def _interval(draws: Floats) -> Interval:
    """The value, which stands first, and the 95 % interval of the others."""
    low, high = np.percentile(draws[1:] if len(draws) > 1 else draws, _TAILS)
    return float(draws[0]), float(low), float(high)


# On gaze

_CONDITIONS = ("pure", "whole", "general", "salient", "nonsalient")


def in_order(conditions: Iterable[str]) -> list[str]:
    """Viewing conditions, each once: those of SJTU-TIS from pure to nonsalient, then others by name."""
    present = set(conditions)
    return [c for c in _CONDITIONS if c in present] + sorted(present - set(_CONDITIONS))


@dataclass(frozen=True)
class Row:
    """Scores of one model under one viewing condition."""

    pairs: int
    """Photos times texts that were scored."""
    photos: int
    metrics: dict[str, Estimate | None]
    """By name, in the order of `salgan_edge.metrics.METRICS`; None where no pair has fixations."""


@dataclass(frozen=True)
class Pointing:
    """The pointing game: does the peak for "a dog" fall inside the dog's box?"""

    cases: int
    """Photos times classes of which the detector found exactly one object of a fitting size."""
    photos: int
    """Photos with a case."""
    hits: Estimate
    """Share of cases whose peak lies inside the box, told the object's name."""
    free_viewing: Estimate
    """The same with the peak of free viewing: what a model that ignores the text would reach."""
    box_area: float
    """Mean share of the photo that the box covers: what a peak at a random place would reach."""


@dataclass(frozen=True)
class ModelScores:
    """Scores of one bundle or baseline on one data set."""

    name: str
    """Label: the bundle's name, the one given with ``--compare``, or the baseline's."""
    bundle: str | None
    """Id of the bundle; None for a baseline."""
    rows: dict[str, Row]
    """By viewing condition, `ALL` first; `GROUPED` last where both of its conditions occur."""
    guide: Estimate | None
    """See `salgan_edge.metrics.guide`; None without salient and non-salient texts of one photo."""
    guide_photos: int
    """Photos with both texts."""
    less_first: dict[str, Estimate | None] | None
    """By metric, over all pairs: this model less the evaluated bundle (the first in the table), the
    interval from the same photos drawn for both; None for the evaluated bundle itself."""
    pointing: Pointing | None
    """None for baselines, without a detector, or without a case."""


@dataclass(frozen=True)
class DataScores:
    """Scores on one split of one data set."""

    data: str
    """Name of the folder."""
    split: str
    """``train``, ``validation``, ``test`` or ``all``."""
    photos: int
    pairs: int
    photos_of_split: int
    """More than `photos` where the evaluation was limited to some."""
    baseline_from: str
    """Whose mean map is the baseline of IG and the mean map's row: ``train``, or ``evaluated`` where
    the data set has no training photos."""
    models: list[ModelScores]
    """The evaluated bundle first."""


@dataclass(frozen=True)
class Evaluation:
    """Everything that one run of ``salgan-edge evaluate`` measured."""

    format_version: int
    resamples: int
    """Bootstrap samples, each drawn by photo."""
    seed: int
    data: list[DataScores]

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as it is printed with ``--json``, JSON-ready."""
        return asdict(self)

    @staticmethod
    def summary(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The evaluated bundle's means by data set and split, for the ``metrics`` of a manifest.

        Args:
            raw: parsed output of ``--json``.

        Raises:
            DataError: output of another format version, or none at all.
        """
        if raw.get("format_version") != FORMAT_VERSION:
            raise DataError(
                f"scores of format {raw.get('format_version')} were given, {FORMAT_VERSION} was expected: "
                "evaluate again with --json"
            )
        told: dict[str, dict[str, Any]] = {}
        for scores in raw["data"]:
            model = scores["models"][0]
            told[f"{scores['data']} {scores['split']}"] = {
                "photos": scores["photos"],
                "pairs": scores["pairs"],
                "guide": _rounded(model["guide"]),
                **({"pointing": _rounded(model["pointing"]["hits"])} if model["pointing"] else {}),
                **{
                    condition: {metric: _rounded(value) for metric, value in row["metrics"].items()}
                    for condition, row in model["rows"].items()
                },
            }
        return told


def _rounded(estimate: dict[str, float] | None) -> float | None:
    return None if estimate is None else round(estimate["mean"], 4)


# On texts with boxes


@dataclass(frozen=True)
class Case:
    """One text asked of one photo; the mean over a row's wordings where those are averaged."""

    photo: str
    """``SET/NAME``."""
    row: int
    """Number of the phrase among those of the photo."""
    kind: str
    text: str
    boxes: tuple[Box, ...]
    area: float
    """Share of the photo that the boxes cover, as labelled."""
    at_random: float
    """Share of the photo that the widened boxes cover: what a peak at a random place would reach."""
    told: float
    """1 where the told map's peak lies in a widened box, else 0."""
    untold: float
    """The same for free viewing."""
    lift: float
    """NaN where neither map has anything in the boxes."""
    peak: tuple[float, float]
    """x and y of the told map's peak in shares of width and height, 0..1."""
    text_effect: float
    """0 where the text changes nothing, up to 2."""
    variation: float
    """0..1."""


@dataclass(frozen=True)
class Absent:
    """A text of another photo, asked of this one."""

    photo: str
    text: str
    text_effect: float
    variation: float


@dataclass(frozen=True)
class PromptRow:
    """Scores of one model on some of the cases."""

    cases: int
    photos: int
    told: Interval
    untold: Interval
    lift: Interval | None
    """Median; None where no case has one."""
    at_random: float
    """Mean share of the photo that the widened boxes cover."""
    box_area: float
    """Mean share that the boxes cover, as labelled."""


@dataclass(frozen=True)
class Noun:
    """What one noun, a text without its article, reached."""

    noun: str
    cases: int
    told: float
    untold: float


@dataclass(frozen=True)
class Separation:
    """How well one measure tells present from absent texts."""

    auc: Interval
    """Chance that a present text has more of it than an absent one, ties half."""
    auc_matched: Interval | None
    """The same with those present texts alone that could have been drawn as absent ones, so that
    it does not depend on how usual the words are; None without one."""
    present: float
    """Mean over present texts."""
    absent: float


@dataclass(frozen=True)
class Absence:
    """Texts about absent things against texts about present ones."""

    present: int
    present_matched: int
    absent: int
    text_effect: Separation
    variation: Separation


@dataclass(frozen=True)
class PromptScores:
    """Scores of one model."""

    name: str
    bundle: str | None
    rows: dict[str, PromptRow]
    """By kind, `ALL` first."""
    sets: dict[str, PromptRow]
    """By set of photos."""
    sizes: dict[str, PromptRow]
    """By share of the photo that the boxes cover, ``small``, ``medium`` or ``large``; see `SMALL`."""
    nouns: list[Noun]
    """Those with `NOUN_CASES` or more cases, the worst first."""
    absence: Absence | None
    """None where no text could be drawn as an absent one."""
    less_first: Interval | None
    """This model's told less the first model's, case by case; None for the first."""
    cases: list[Case]
    """Everything that was asked, wording by wording."""


@dataclass(frozen=True)
class PromptEvaluation:
    """What one table of texts with boxes found; `to_dict` is the JSON."""

    table: str
    split: str
    photos: int
    photos_of_split: int
    texts: int
    left_out: int
    """Rows without a box, or with boxes that cover more than `LARGEST` of the photo."""
    wordings: str
    """``first`` or ``all``."""
    resamples: int
    seed: int
    models: list[PromptScores]

    def to_dict(self) -> dict[str, Any]:
        """The scores without single cases, JSON-ready: intervals are [value, low, high], what cannot be had is None.

        Fields may be added; a change of meaning, name or nesting raises ``format_version``.
        """
        head = {key: value for key, value in vars(self).items() if key != "models"}
        told = [asdict(replace(model, cases=[])) for model in self.models]
        for model in told:
            del model["cases"]
        settings = {"margin": MARGIN, "largest": LARGEST, "absent_texts_per_photo": ABSENT}
        return {"kind": "pointing", "format_version": FORMAT_VERSION, **head, **settings, "models": told}

    @staticmethod
    def summary(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The first model's values by table and split, rounded, for the ``metrics`` of a manifest.

        Args:
            raw: what `to_dict` gave, perhaps through JSON.

        Raises:
            DataError: scores of another format version, or none at all.
        """
        if (raw.get("kind"), raw.get("format_version")) != ("pointing", FORMAT_VERSION):
            raise DataError(
                f"scores of kind {raw.get('kind')}, format {raw.get('format_version')} were given, pointing, "
                f"{FORMAT_VERSION} was expected: evaluate again with --prompts and --json"
            )
        model = raw["models"][0]
        kinds = {
            kind: {"cases": row["cases"], **{name: _value(row[name]) for name in ("told", "untold", "lift")}}
            for kind, row in model["rows"].items()
        }
        absence = None
        if model["absence"] is not None:
            found = model["absence"]["text_effect"]
            absence = {
                "text_effect_auc": _value(found["auc"]),
                "text_effect_auc_matched": _value(found["auc_matched"]),
            }
        return {
            f"pointing {raw['table']} {raw['split']}": {"photos": raw["photos"], **kinds, "absence": absence}
        }


def _value(interval: Sequence[float] | None) -> float | None:
    """The value of [value, low, high], to four digits."""
    return None if interval is None else round(interval[0], 4)
