"""What an evaluation found, as frozen values that can be written as JSON.

The machine-readable output of ``salgan-edge evaluate --json`` is `Evaluation.to_json`: the fields
below under their own names, nested as they are here. Fields may be added; a change of meaning, name
or nesting raises ``format_version``. Numbers that cannot be had (a metric that needs fixations, on a
data set of maps alone) are ``null``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from salgan_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ALL", "FORMAT_VERSION", "GROUPED", "METRICS", "DataScores", "Estimate", "Evaluation", "ModelScores",
    "Pointing", "Row", "in_order",
]  # fmt: skip

FORMAT_VERSION = 1

METRICS = ("CC", "SIM", "KL", "NSS", "AUC-Judd", "sAUC", "IG")
"""Column order. KL is better when smaller, all others when larger."""

ALL = "all"
"""The row of all pairs."""

GROUPED = "general+whole"
"""The row of the paper's "Type 4 & Type 1"."""


_CONDITIONS = ("pure", "whole", "general", "salient", "nonsalient")


def in_order(conditions: Iterable[str]) -> list[str]:
    """Viewing conditions, each once: those of SJTU-TIS from pure to nonsalient, then others by name."""
    present = set(conditions)
    return [c for c in _CONDITIONS if c in present] + sorted(present - set(_CONDITIONS))


@dataclass(frozen=True)
class Estimate:
    """A mean over photos with its bootstrap interval."""

    mean: float
    low: float
    """Lower end of the 95 % confidence interval."""
    high: float
    """Upper end."""


@dataclass(frozen=True)
class Row:
    """Scores of one model under one viewing condition."""

    pairs: int
    """Photos times texts that were scored."""
    photos: int
    metrics: dict[str, Estimate | None]
    """By name, in the order of `METRICS`; None where no pair has fixations."""


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

    def to_json(self) -> str:
        """The evaluation as it is printed with ``--json``."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False)

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
