"""What is scored: bundles, and baselines that every bundle should beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import cv2
import numpy as np

from salgan_edge.evaluate import Baseline

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from salgan_edge.predictor import SaliencyPredictor

    FloatMap = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

__all__ = [
    "BundleModel",
    "Constant",
    "Model",
    "SpectralResidual",
    "baseline_model",
    "centre_gaussian",
    "resized",
]


class Model(Protocol):
    """Something that gives a saliency map for a photo and a text."""

    @property
    def name(self) -> str:
        """Label in tables."""

    @property
    def bundle(self) -> str | None:
        """Id of the bundle; None for a baseline."""

    def maps(self, photo: Pixels, texts: Sequence[str | None]) -> list[FloatMap]:
        """Saliency maps, non-negative float32 (h, w), all of one size, for each text; None is free viewing."""


class BundleModel:
    """A bundle under a label."""

    def __init__(self, predictor: SaliencyPredictor, name: str) -> None:
        self.predictor = predictor
        self.name = name
        self.bundle: str | None = predictor.bundle.manifest.bundle_id

    def maps(self, photo: Pixels, texts: Sequence[str | None]) -> list[FloatMap]:
        """Maps at the photo's size, 0..1."""
        return [result.map for result in self.predictor.predict(photo, list(texts))]


class Constant:
    """The same map (h, w) for everything, stretched to the photo."""

    def __init__(self, values: FloatMap, name: str) -> None:
        self.name = name
        self.bundle: str | None = None
        self._values = values

    def maps(self, photo: Pixels, texts: Sequence[str | None]) -> list[FloatMap]:  # noqa: ARG002
        """The constant, at its own size."""
        return [self._values] * len(texts)


class SpectralResidual:
    """The spectral residual of the photo, whatever the text.

    Hou and Zhang, "Saliency detection: a spectral residual approach", CVPR 2007: what the logarithm
    of the amplitude spectrum has beyond its local mean is transformed back with the phase kept.
    opencv-python has no ``cv2.saliency``; parameters (64 pixels, a mean over 3x3 frequencies, a
    Gaussian of 5x5 and standard deviation 8 before squaring) are those of
    ``StaticSaliencySpectralResidual`` in opencv-contrib, whose output this agrees with.
    """

    name = "spectral residual"
    bundle: str | None = None

    _SIDE = 64

    def maps(self, photo: Pixels, texts: Sequence[str | None]) -> list[FloatMap]:
        """The map at 64x64, largest value 1, once for each text."""
        return [self.residual(photo)] * len(texts)

    def residual(self, photo: Pixels) -> FloatMap:
        """Saliency float32 (64, 64) of an RGB photo (H, W, 3)."""
        grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (self._SIDE, self._SIDE), interpolation=cv2.INTER_LINEAR_EXACT)
        spectrum = np.fft.fft2(small.astype(np.float64))
        # A photo of one colour has amplitudes of 0; those of others are far larger than the limit.
        logarithm = np.log(np.maximum(np.abs(spectrum), 1e-6))
        rest = logarithm - cv2.blur(logarithm, (3, 3))
        changed = np.abs(np.fft.ifft2(np.exp(rest + 1j * np.angle(spectrum))))
        saliency = cv2.GaussianBlur(changed, (5, 5), 8) ** 2
        return np.asarray(saliency / saliency.max(), np.float32)


def centre_gaussian(side: int = 128) -> FloatMap:
    """A Gaussian in the middle, float32 (side, side): standard deviation a quarter of the side.

    Stretched to a photo, it has a quarter of the photo's width and height, as the centre model of
    Judd et al. 2012 follows the photo's shape.
    """
    x = (np.arange(side) + 0.5) / side - 0.5
    profile = np.exp(-((x / 0.25) ** 2) / 2)
    return np.outer(profile, profile).astype(np.float32)


def baseline_model(kind: Baseline, mean_map: FloatMap) -> Model:
    """A baseline; `mean_map` (h, w) is the mean of the training split's human maps."""
    if kind is Baseline.mean_map:
        return Constant(mean_map, "mean map")
    if kind is Baseline.centre:
        return Constant(centre_gaussian(), "centre Gaussian")
    if kind is Baseline.spectral_residual:
        return SpectralResidual()
    raise ValueError(f"{kind} is not a model")


def resized(values: FloatMap, shape: tuple[int, ...]) -> FloatMap:
    """A map (h, w) on another grid: averaged where that is coarser, interpolated where it is finer."""
    size = (shape[1], shape[0])
    shrinking = values.shape[0] > shape[0]
    return cast(
        "FloatMap", cv2.resize(values, size, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    )
