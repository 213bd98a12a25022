"""Scores a bundle on human gaze, through ONNX Runtime alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
from salgan_edge.train.data.gaze import GazeFolder, GazePair, photos

from salgan_edge import metrics
from salgan_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from salgan_edge.predictor import SaliencyPredictor

    FloatMap = npt.NDArray[np.float32]

__all__ = ["Scores", "evaluate_bundle"]

METRICS = ("CC", "SIM", "KL", "NSS", "AUC-Judd", "sAUC")


@dataclass(frozen=True)
class Scores:
    """Mean scores on one split of one data set."""

    data: str
    split: str
    photos: int
    pairs: int
    """Photos times viewing conditions."""
    rows: dict[str, dict[str, float]]
    """Mean of each metric by condition, and over ``all`` pairs."""
    guide: float | None
    """See `metrics.guide`; None without salient and non-salient texts."""
    mean_map: dict[str, float]
    """CC by condition of a constant: the mean of the training split's maps."""


def evaluate_bundle(
    predictor: SaliencyPredictor,
    folder: GazeFolder,
    split: str,
    progress: Callable[[Sequence[list[GazePair]]], Iterable[list[GazePair]]] = lambda items: items,
) -> Scores:
    """Score every pair of a split at the resolution of its human map.

    Args:
        predictor: the bundle to score.
        folder: gaze data.
        split: ``train``, ``validation`` or ``test``.
        progress: wraps the list of photos, to show progress.

    Raises:
        DataError: the split is empty.
    """
    pairs = folder.select(split)
    if not pairs:
        raise DataError(
            f"{folder.folder} has no photos in split {split!r}: train, validation or test was expected"
        )
    constant = _mean_map(folder)
    rows: dict[str, list[dict[str, float]]] = {}
    blind: dict[str, list[float]] = {}
    opposed = []
    groups = list(photos(pairs).values())
    for group in progress(groups):
        image = folder.image(group[0].image)
        results = predictor.predict(image, [pair.text or None for pair in group])
        maps = {}
        for pair, result in zip(group, results, strict=True):
            human = folder.saliency_map(pair)
            predicted = _resized(result.map, human.shape)
            maps[pair.condition] = (predicted, human)
            fixations = folder.fixation_map(pair, human.shape)
            others = _other_fixations(folder, pairs, pair, human.shape)
            scores = {
                "CC": metrics.cc(predicted, human),
                "SIM": metrics.sim(predicted, human),
                "KL": metrics.kl_divergence(predicted, human),
                "NSS": metrics.nss(predicted, fixations),
                "AUC-Judd": metrics.auc_judd(predicted, fixations),
                "sAUC": metrics.shuffled_auc(predicted, fixations, others),
            }
            for name in ("all", pair.condition):
                rows.setdefault(name, []).append(scores)
                blind.setdefault(name, []).append(metrics.cc(_resized(constant, human.shape), human))
        if "salient" in maps and "nonsalient" in maps:
            (first, human_first), (second, human_second) = maps["salient"], maps["nonsalient"]
            opposed.append((first, second, human_first, human_second))
    return Scores(
        data=folder.name,
        split=split,
        photos=len(groups),
        pairs=len(pairs),
        rows={
            condition: {metric: float(np.mean([score[metric] for score in scores])) for metric in METRICS}
            for condition, scores in rows.items()
        },
        guide=metrics.guide(opposed) if opposed else None,
        mean_map={condition: float(np.mean(values)) for condition, values in blind.items()},
    )


def _resized(values: FloatMap, shape: tuple[int, ...]) -> FloatMap:
    size = (shape[1], shape[0])
    shrinking = values.shape[0] > shape[0]
    return cast(
        "FloatMap", cv2.resize(values, size, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    )


def _mean_map(folder: GazeFolder, side: int = 128) -> FloatMap:
    """Mean human map of the training split, all conditions."""
    maps = [_resized(folder.saliency_map(pair), (side, side)) for pair in folder.select("train")]
    return cast("FloatMap", np.mean(maps, axis=0, dtype=np.float32))


def _other_fixations(
    folder: GazeFolder, pairs: Sequence[GazePair], pair: GazePair, shape: tuple[int, ...]
) -> npt.NDArray[np.int32]:
    """Fixations of the same condition in the split's other photos, on this photo's grid."""
    total = np.zeros(shape, np.int32)
    for other in pairs:
        if other.condition == pair.condition and other.image != pair.image:
            total += folder.fixation_map(other, (shape[0], shape[1]))
    return total
