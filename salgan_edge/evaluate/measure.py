"""Scores models on gaze pair by pair and sums them up with intervals.

Also the human side of it: fixations of other photos, and the mean map.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from salgan_edge.errors import DataError
from salgan_edge.evaluate import Baseline
from salgan_edge.evaluate.models import baseline_model, resized
from salgan_edge.evaluate.pointing import PointingGame
from salgan_edge.evaluate.scores import ALL, GROUPED, DataScores, Estimate, ModelScores, Row, in_order
from salgan_edge.gaze.folder import photos
from salgan_edge.metrics import METRICS, Gaze, guide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from salgan_edge.evaluate.models import Model
    from salgan_edge.evaluate.pointing import BoxSource
    from salgan_edge.evaluate.scores import Bootstrap
    from salgan_edge.gaze.folder import GazeFolder, GazePair

    FloatMap = npt.NDArray[np.float32]
    Counts = npt.NDArray[np.int32]
    Progress = Callable[[Sequence[list[GazePair]]], Iterable[list[GazePair]]]

T = TypeVar("T")

__all__ = ["OtherFixations", "evaluate_folder", "mean_map", "pairs_of", "some_of"]


@dataclass
class _Measured:
    """Scores of one model, pair by pair."""

    model: Model
    photos: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    values: list[list[float]] = field(default_factory=list)
    """In the order of `METRICS`, NaN where there are no fixations."""
    guide: dict[str, float] = field(default_factory=dict)
    """By photo: 1 guided, 0 misled, half undecided."""

    def score(self, photo: npt.NDArray[np.uint8], group: Sequence[GazePair], looked: Sequence[Gaze]) -> None:
        """Predict and score all pairs of a photo, of which people `looked` so."""
        maps = self.model.maps(photo, [pair.text or None for pair in group])
        sides: dict[str, tuple[FloatMap, FloatMap]] = {}
        for values, pair, gaze in zip(maps, group, looked, strict=True):
            human = cast("FloatMap", gaze.human)
            predicted = resized(values, human.shape)
            sides[pair.condition] = (predicted, human)
            self.photos.append(pair.image)
            self.conditions.append(pair.condition)
            self.values.append([metric.of(predicted, gaze) for metric in METRICS.values()])
        if {"salient", "nonsalient"} <= set(sides):
            (first, human_first), (second, human_second) = sides["salient"], sides["nonsalient"]
            self.guide[group[0].image] = guide([(first, second, human_first, human_second)])

    def row(self, conditions: Sequence[str], bootstrap: Bootstrap) -> Row:
        """Means over the pairs under some conditions."""
        kept = [n for n, condition in enumerate(self.conditions) if condition in conditions]
        names = [self.photos[n] for n in kept]
        return Row(
            pairs=len(kept),
            photos=len(set(names)),
            metrics=_estimates(np.array([self.values[n] for n in kept]), names, bootstrap),
        )

    def summed_up(self, first: _Measured, bootstrap: Bootstrap) -> ModelScores:
        """All rows, and the difference to the first model unless this is it."""
        ordered = in_order(self.conditions)
        rows = {ALL: self.row(ordered, bootstrap)}
        rows |= {condition: self.row((condition,), bootstrap) for condition in ordered}
        if {"general", "whole"} <= set(ordered):
            rows[GROUPED] = self.row(("general", "whole"), bootstrap)
        difference = np.array(self.values) - np.array(first.values)
        return ModelScores(
            name=self.model.name,
            bundle=self.model.bundle,
            rows=rows,
            guide=bootstrap.estimate(list(self.guide.values()), list(self.guide)),
            guide_photos=len(self.guide),
            less_first=None if self is first else _estimates(difference, self.photos, bootstrap),
            pointing=None,
        )


def _estimates(
    values: npt.NDArray[np.float64], names: Sequence[str], bootstrap: Bootstrap
) -> dict[str, Estimate | None]:
    """Means of scores (pairs, metrics) by metric; `names` are the pairs' photos."""
    return {metric: bootstrap.estimate(values[:, n], names) for n, metric in enumerate(METRICS)}


def evaluate_folder(
    bundles: Sequence[Model],
    folder: GazeFolder,
    split: str,
    bootstrap: Bootstrap,
    *,
    baselines: Sequence[Baseline] = (),
    boxes: BoxSource | None = None,
    limit: int | None = None,
    progress: Progress = lambda groups: groups,
) -> DataScores:
    """Score bundles and baselines on a split, each pair at the resolution of its human map.

    Negatives of sAUC and the mean map come from the whole split and data set, so a pair scores the
    same with and without `limit`. IG is against the mean map, both with 1 % of a uniform density
    mixed in (`salgan_edge.metrics.information_gain`).

    Args:
        bundles: what to score; the first is what the others are compared with.
        folder: gaze data.
        split: ``train``, ``validation``, ``test`` or ``all``.
        bootstrap: how intervals are made.
        baselines: also scored, in the same table.
        boxes: detector for the pointing game, which is left out where None.
        limit: score this many photos, spread over the split; all where None.
        progress: wraps the list of photos, to show progress.

    Raises:
        DataError: the split is empty, or a file of the data set cannot be used.
    """
    pairs = pairs_of(folder, split)
    everyone = list(photos(pairs).values())
    groups = some_of(everyone, limit)
    constant, source = mean_map(folder, pairs)
    baseline_models = [baseline_model(kind, constant) for kind in baselines if kind is not Baseline.none]
    measured = [_Measured(model) for model in (*bundles, *baseline_models)]
    games = [PointingGame(model) for model in bundles] if boxes is not None else []
    others = OtherFixations(folder, pairs)
    for group in progress(groups):
        photo = folder.image(group[0].image)
        looked = [_gaze(folder, pair, others, constant) for pair in group]
        for kept in measured:
            kept.score(photo, group, looked)
        found = boxes.objects(photo) if boxes is not None else []
        for game in games:
            game.play(group[0].image, photo, found)
    told = [kept.summed_up(measured[0], bootstrap) for kept in measured]
    for n, game in enumerate(games):
        told[n] = game.told(told[n], bootstrap)
    return DataScores(
        data=folder.name,
        split=split,
        photos=len(groups),
        pairs=sum(len(group) for group in groups),
        photos_of_split=len(everyone),
        baseline_from=source,
        models=told,
    )


def _gaze(folder: GazeFolder, pair: GazePair, others: OtherFixations, constant: FloatMap) -> Gaze:
    """Where people looked under one condition, on the grid of its human map."""
    human = folder.saliency_map(pair)
    shape = (human.shape[0], human.shape[1])
    return Gaze(human, folder.fixation_map(pair, shape), others.of(pair, shape), resized(constant, shape))


def some_of(items: list[T], limit: int | None) -> list[T]:
    """At most `limit` of the items, spread evenly over the list; all where None."""
    if limit is None or limit >= len(items):
        return items
    return [items[n * len(items) // limit] for n in range(limit)]


def pairs_of(folder: GazeFolder, split: str) -> list[GazePair]:
    """The pairs of a split, or of ``all``, sorted by key.

    Raises:
        DataError: there are none.
    """
    if split == "all":
        return sorted(folder.pairs, key=lambda pair: pair.key)
    pairs = folder.select(split)
    if not pairs:
        held = ", ".join(sorted({pair.split for pair in folder.pairs})) or "nothing"
        raise DataError(
            f"{folder.folder} has no photos in split {split!r}, only in {held}: choose one of them, or --split all"
        )
    return pairs


def mean_map(folder: GazeFolder, pairs: Sequence[GazePair], side: int = 128) -> tuple[FloatMap, str]:
    """Mean human map (side, side), and from which photos: ``train`` or ``evaluated``.

    It is the mean over all conditions of the training split; where the data set has none (its
    splits may be given), over the evaluated pairs, which then know a little of themselves.
    """
    train = folder.select("train")
    maps = [resized(folder.saliency_map(pair), (side, side)) for pair in train or pairs]
    return cast("FloatMap", np.mean(maps, axis=0, dtype=np.float32)), "train" if train else "evaluated"


class OtherFixations:
    """Negatives of the shuffled AUC: what was fixated in all other photos under the same condition.

    Counts of a whole condition are kept by grid, so a pair costs one subtraction.
    """

    def __init__(self, folder: GazeFolder, pairs: Sequence[GazePair]) -> None:
        self._folder = folder
        self._points: dict[str, list[npt.NDArray[np.float64]]] = {}
        for pair in pairs:
            self._points.setdefault(pair.condition, []).append(folder.fixations(pair))
        self._totals: dict[tuple[str, tuple[int, int]], Counts] = {}

    def of(self, pair: GazePair, shape: tuple[int, int]) -> Counts:
        """Fixations (h, w) of the other photos on this pair's grid, photos stretched onto each other."""
        key = (pair.condition, shape)
        if key not in self._totals:
            points = np.concatenate(self._points[pair.condition])
            cells = np.minimum((points * (shape[1], shape[0])).astype(int), (shape[1] - 1, shape[0] - 1))
            flat = np.bincount(cells[:, 1] * shape[1] + cells[:, 0], minlength=shape[0] * shape[1])
            self._totals[key] = flat.reshape(shape).astype(np.int32)
        others: Counts = self._totals[key] - self._folder.fixation_map(pair, shape)
        return others
