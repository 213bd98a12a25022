"""Scores models pair by pair and sums them up with intervals.

Also the human side of it: fixations of other photos, and the mean map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np

from salgan_edge import metrics
from salgan_edge.errors import DataError
from salgan_edge.evaluate.models import (
    Baseline,
    Constant,
    Model,
    SpectralResidual,
    centre_gaussian,
    resized,
)
from salgan_edge.evaluate.objects import PointingGame
from salgan_edge.evaluate.scores import (
    ALL,
    FORMAT_VERSION,
    GROUPED,
    METRICS,
    DataScores,
    Estimate,
    Evaluation,
    ModelScores,
    Row,
    in_order,
)
from salgan_edge.gaze.folder import photos

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from salgan_edge.evaluate.objects import BoxSource
    from salgan_edge.evaluate.resampling import Bootstrap
    from salgan_edge.gaze.folder import GazeFolder, GazePair

    FloatMap = npt.NDArray[np.float32]
    Counts = npt.NDArray[np.int32]
    Progress = Callable[[Sequence[list[GazePair]]], Iterable[list[GazePair]]]

__all__ = ["OtherFixations", "evaluate_folder", "evaluate_folders", "mean_map", "pairs_of", "some_of"]

_UNIFORM_SHARE = 0.01


@dataclass
class _Measured:
    """Scores of one model, pair by pair."""

    photos: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    values: list[tuple[float, ...]] = field(default_factory=list)
    """In the order of `METRICS`, NaN where there are no fixations."""
    guide: dict[str, float] = field(default_factory=dict)
    """By photo: 1 guided, 0 misled, half undecided."""

    def chosen(self, conditions: Sequence[str]) -> tuple[npt.NDArray[np.float64], list[str]]:
        """Scores (n, metrics) and photos of the pairs under some conditions."""
        kept = [n for n, condition in enumerate(self.conditions) if condition in conditions]
        return np.array([self.values[n] for n in kept]), [self.photos[n] for n in kept]


def evaluate_folders(
    bundles: Sequence[Model],
    folders: Sequence[GazeFolder],
    split: str,
    bootstrap: Bootstrap,
    *,
    baselines: Sequence[Baseline] = (),
    boxes: BoxSource | None = None,
    limit: int | None = None,
    progress: Progress = lambda groups: groups,
) -> Evaluation:
    """Score bundles and baselines on the same split of several data sets; see `evaluate_folder`."""
    return Evaluation(
        format_version=FORMAT_VERSION,
        resamples=bootstrap.resamples,
        seed=bootstrap.seed,
        data=[
            evaluate_folder(
                bundles,
                folder,
                split,
                bootstrap,
                baselines=baselines,
                boxes=boxes,
                limit=limit,
                progress=progress,
            )
            for folder in folders
        ],
    )


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
    models: list[Model] = [*bundles, *(_baseline(kind, constant) for kind in baselines)]
    measured = [_Measured() for _ in models]
    games = [PointingGame(model) for model in bundles] if boxes is not None else []
    scorer = _Scorer(folder, OtherFixations(folder, pairs), constant)
    for group in progress(groups):
        photo = folder.image(group[0].image)
        texts = [pair.text or None for pair in group]
        for model, kept in zip(models, measured, strict=True):
            scorer.score(model.maps(photo, texts), group, kept)
        if boxes is not None and games:
            found = boxes.objects(photo)
            for game in games:
                game.play(group[0].image, photo, found)
    told = [
        _summed_up(model.name, model.bundle, kept, measured[0], bootstrap)
        for model, kept in zip(models, measured, strict=True)
    ]
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


def some_of(groups: list[list[GazePair]], limit: int | None) -> list[list[GazePair]]:
    """At most `limit` photos, spread evenly over the list."""
    if limit is None or limit >= len(groups):
        return groups
    return [groups[n * len(groups) // limit] for n in range(limit)]


def _baseline(kind: Baseline, constant: FloatMap) -> Model:
    if kind is Baseline.mean_map:
        return Constant(constant, "mean map")
    if kind is Baseline.centre:
        return Constant(centre_gaussian(), "centre Gaussian")
    return SpectralResidual()


class _Scorer:
    """Scores maps of one photo, whose human side is read once for all models."""

    def __init__(self, folder: GazeFolder, others: OtherFixations, constant: FloatMap) -> None:
        self._folder = folder
        self._others = others
        self._constant = constant
        self._photo: str | None = None
        self._known: list[tuple[FloatMap, npt.NDArray[np.int32], npt.NDArray[np.int32], FloatMap]] = []

    def score(self, maps: Sequence[FloatMap], group: Sequence[GazePair], kept: _Measured) -> None:
        """Add the scores of a photo's pairs to `kept`."""
        if self._photo != group[0].image:
            self._photo = group[0].image
            self._known = [self._human(pair) for pair in group]
        sides: dict[str, tuple[FloatMap, FloatMap]] = {}
        for values, pair, (human, fixations, others, baseline) in zip(maps, group, self._known, strict=True):
            predicted = resized(values, human.shape)
            sides[pair.condition] = (predicted, human)
            kept.photos.append(pair.image)
            kept.conditions.append(pair.condition)
            fixated, elsewhere = fixations.any(), others.any()
            kept.values.append(
                (
                    metrics.cc(predicted, human),
                    metrics.sim(predicted, human),
                    metrics.kl_divergence(predicted, human),
                    metrics.nss(predicted, fixations) if fixated else math.nan,
                    metrics.auc_judd(predicted, fixations) if fixated else math.nan,
                    metrics.shuffled_auc(predicted, fixations, others) if fixated and elsewhere else math.nan,
                    metrics.information_gain(predicted, fixations, baseline, uniform=_UNIFORM_SHARE)
                    if fixated
                    else math.nan,
                )
            )
        if "salient" in sides and "nonsalient" in sides:
            (first, human_first), (second, human_second) = sides["salient"], sides["nonsalient"]
            kept.guide[group[0].image] = metrics.guide([(first, second, human_first, human_second)])

    def _human(
        self, pair: GazePair
    ) -> tuple[FloatMap, npt.NDArray[np.int32], npt.NDArray[np.int32], FloatMap]:
        human = self._folder.saliency_map(pair)
        shape = (human.shape[0], human.shape[1])
        return (
            human,
            self._folder.fixation_map(pair, shape),
            self._others.of(pair, shape),
            resized(self._constant, shape),
        )


def _summed_up(
    name: str, bundle: str | None, kept: _Measured, first: _Measured, bootstrap: Bootstrap
) -> ModelScores:
    ordered = in_order(kept.conditions)
    rows = {ALL: _row(kept, ordered, bootstrap)}
    rows |= {condition: _row(kept, (condition,), bootstrap) for condition in ordered}
    if {"general", "whole"} <= set(ordered):
        rows[GROUPED] = _row(kept, ("general", "whole"), bootstrap)
    less_first: dict[str, Estimate | None] | None = None
    if kept is not first:
        difference = np.array(kept.values) - np.array(first.values)
        less_first = {
            metric: bootstrap.estimate(difference[:, n], kept.photos) for n, metric in enumerate(METRICS)
        }
    guide = bootstrap.estimate(list(kept.guide.values()), list(kept.guide)) if kept.guide else None
    return ModelScores(name, bundle, rows, guide, len(kept.guide), less_first, None)


def _row(kept: _Measured, conditions: Sequence[str], bootstrap: Bootstrap) -> Row:
    values, names = kept.chosen(conditions)
    return Row(
        pairs=len(values),
        photos=len(set(names)),
        metrics={metric: bootstrap.estimate(values[:, n], names) for n, metric in enumerate(METRICS)},
    )


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
