"""Writes the values that tests compare with: ``tests/golden/pysaliency.json`` and ``spectral_residual.json``.

Both are made by other packages, which do not fit beside this one, so each has an environment of its own.

Saliency metrics by an independent implementation; pysaliency needs older packages than this project (torch is imported, not used)::

    python3 -m venv oracle && oracle/bin/pip install "numpy<2.4" "setuptools<81" torch "pysaliency==0.2.22"
    oracle/bin/python -m tools.golden pysaliency

OpenCV's own spectral residual of a made-up photo; ``cv2.saliency`` is in opencv-contrib-python alone, which overwrites opencv-python::

    python3 -m venv contrib && contrib/bin/pip install opencv-contrib-python
    contrib/bin/python -m tools.golden spectral_residual

Inputs are made by `case` and `photo`, which the tests import, so the files hold the values alone. numpy promises the same numbers from the
same seed only for one generator and stream of versions; the sums in the file show whether they differ; then run this again.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
SHAPE = (24, 32)
CASES = ("smooth", "smooth, repeated fixations", "few levels", "zeros", "one fixation")


class Case(NamedTuple):
    """Input of all metrics; maps float64 (24, 32), fixations integer counts."""

    predicted: np.ndarray
    human: np.ndarray
    baseline: np.ndarray
    fixations: np.ndarray
    other: np.ndarray


def case(name: str) -> Case:
    """Random maps and fixations of one kind."""
    random = np.random.Generator(np.random.PCG64(CASES.index(name)))
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]

    def blobs(count: int) -> np.ndarray:
        total = np.zeros(SHAPE)
        for _ in range(count):
            y, x, size = random.uniform(0, SHAPE[0]), random.uniform(0, SHAPE[1]), random.uniform(2, 6)
            total += np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * size**2))
        return total

    def counts(density: np.ndarray, number: int) -> np.ndarray:
        places = random.choice(density.size, number, p=(density / density.sum()).ravel())
        return np.bincount(places, minlength=density.size).reshape(SHAPE)

    human = blobs(3)
    predicted = human + 0.7 * blobs(3) + 0.05 * random.random(SHAPE)
    baseline = blobs(1) + 0.1
    fixations = (counts(human, 40) > 0).astype(int)
    if name == "smooth, repeated fixations":
        fixations = counts(human**3, 60)
    if name == "few levels":
        predicted = np.floor(3 * predicted / predicted.max())
    if name == "zeros":
        predicted = np.maximum(predicted - 0.5, 0)
    if name == "one fixation":
        fixations = counts(human, 1)
    return Case(predicted, human, baseline, fixations, counts(baseline, 80))


def points(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """X and y of every fixation, repeated as often as it was made."""
    y, x = np.nonzero(counts)
    return np.repeat(x, counts[y, x]), np.repeat(y, counts[y, x])


def values(name: str) -> dict[str, float]:
    """Scores of a case by pysaliency."""
    import pysaliency  # noqa: PLC0415 - the tests import this file without it
    from pysaliency.metrics import CC, NSS, SIM, MIT_KLDiv  # noqa: PLC0415

    made = case(name)
    stimuli = pysaliency.Stimuli([np.zeros((*SHAPE, 3))])

    def fixations(counts: np.ndarray) -> object:
        x, y = points(counts)
        return pysaliency.Fixations.create_without_history(x, y, np.zeros(len(x), int))

    class Map(pysaliency.SaliencyMapModel):
        def _saliency_map(self, _stimulus: object) -> np.ndarray:
            return made.predicted

    class Density(pysaliency.Model):
        def __init__(self, density: np.ndarray) -> None:
            super().__init__()
            self.density = density

        def _log_density(self, _stimulus: object) -> np.ndarray:
            with np.errstate(divide="ignore"):
                return np.log(self.density / self.density.sum())

    looked, elsewhere = fixations(made.fixations), fixations(made.other)
    told = {
        "sum": float(sum(part.sum() for part in made)),
        "CC": CC(made.predicted, made.human),
        "SIM": SIM(made.predicted, made.human),
        "KL": MIT_KLDiv(made.predicted, made.human),
        "NSS": np.mean(NSS(made.predicted, *points(made.fixations))),
        "AUC": Map().AUC(stimuli, looked, nonfixations="unfixated", average="image"),
        "AUC-Judd": Map().AUC_Judd(stimuli, looked),
        "sAUC": Map().AUC(stimuli, looked, nonfixations=elsewhere, average="image"),
        "IG": Density(made.predicted).information_gain(stimuli, looked, Density(made.baseline)),
    }
    return {metric: float(value) for metric, value in told.items() if np.isfinite(value)}


def photo() -> np.ndarray:
    """RGB uint8 (64, 64, 3): a gradient with noise, a disc and a bar.

    It has the size at which the method works, so that no resizing of the result comes in between.
    """
    random = np.random.Generator(np.random.PCG64(0))
    rows, columns = np.mgrid[:64, :64]
    pixels = np.stack([rows * 2, columns * 2, rows + columns], axis=-1) + random.integers(0, 40, (64, 64, 3))
    pixels[(rows - 20) ** 2 + (columns - 44) ** 2 < 36] = (250, 220, 30)
    pixels[48:52, 8:30] = (10, 20, 120)
    return pixels.clip(0, 255).astype(np.uint8)


def spectral_residual() -> dict[str, object]:
    """OpenCV's map of the photo: every fourth pixel of every fourth row."""
    import cv2  # noqa: PLC0415 - the tests have an OpenCV that lacks the module

    method = cv2.saliency.StaticSaliencySpectralResidual_create()
    done, values = method.computeSaliency(cv2.cvtColor(photo(), cv2.COLOR_RGB2BGR))
    assert done
    rows = [[round(float(value), 6) for value in row] for row in values[::4, ::4]]
    return {"opencv": cv2.__version__, "saliency": rows}


def main(name: str) -> None:
    """Write the file of a name."""
    warnings.simplefilter("ignore")
    if name == "pysaliency":
        text = json.dumps({case: values(case) for case in CASES}, indent=1)
    else:
        text = json.dumps(spectral_residual())
    (GOLDEN / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
