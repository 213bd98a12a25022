"""What is timed of a bundle: its stages, and the whole way from a photo to its map."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from salgan_edge import contract, render, samples
from salgan_edge.images import read_image, write_image
from salgan_edge.predictor import SaliencyPredictor
from salgan_edge.resample import fit
from salgan_edge.result import SaliencyResult
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt
    from salgan_edge.benchmarks.settings import Frame

    from salgan_edge.devices import Execution

    Subject = Callable[[], object]

__all__ = [
    "AROUND",
    "BARE",
    "PREDICT",
    "STREAM_OVERLAY",
    "TEXT",
    "Workload",
    "frame_subjects",
    "photo_of",
    "stage_subjects",
    "whole_subjects",
]

TEXT = "a red cup on the table"
"""The prompt that is used throughout."""
BARE = "bare session run"
AROUND = "all but the generator"
"""What `predict` does before and after the session's run."""
PREDICT = "predict"
"""Of an array, with a prompt that is known."""
STREAM_OVERLAY = "draw stream overlay"

_COLOURS = (
    "red", "green", "blue", "white", "black", "yellow", "pink", "brown", "grey", "old", "new", "big", "small", "dark",
    "round", "long", "short", "clean", "wet", "dry",
)  # fmt: skip
_THINGS = (
    "cup", "dog", "cat", "car", "man", "woman", "tree", "house", "book", "chair", "bird", "boat", "bus", "clock",
    "phone", "horse", "door", "hat", "ball", "lamp",
)  # fmt: skip


class Workload:
    """A bundle on one device, ready to be timed.

    Args:
        bundle: folder or ``.salgan`` file.
        execution: device and threads.

    Raises:
        SalganEdgeError: the bundle or the device cannot be used.
    """

    def __init__(self, bundle: Path, execution: Execution) -> None:
        self.predictor = SaliencyPredictor.load(bundle, execution=execution)
        self.manifest = self.predictor.bundle.manifest
        self.reads_text = self.predictor.bundle.has(contract.TEXT_ENCODER_FILE)
        """False for a bundle that was packed without its text encoder: it is then timed without a text."""
        # More texts than the predictor keeps vectors of, so that each is new when its turn comes again.
        self._texts = itertools.cycle(
            f"a {colour} {thing} on the table" for colour, thing in itertools.product(_COLOURS, _THINGS)
        )

    @property
    def device(self) -> str:
        """Where the generator really runs."""
        return self.predictor.device

    @property
    def text(self) -> str | None:
        """A prompt whose vector is kept after its first use."""
        return TEXT if self.reads_text else None

    def texts(self, count: int) -> list[str | None]:
        """Several prompts."""
        return [f"{TEXT} {number}" if self.reads_text else None for number in range(count)]

    def encode(self) -> object:
        """Tokenise and encode a text that is new to the predictor."""
        return self.predictor.embed([next(self._texts)])

    def resize(self, photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The photo as it is given to the generator."""
        return fit(photo, *self.predictor.bundle.manifest.input_size)

    def run(self, images: npt.NDArray[np.uint8], vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The session of the generator and nothing else.

        Args:
            images: RGB uint8 (B, H, W, 3).
            vectors: text vectors (B, N, dimension).

        Returns:
            Saliency (B, N, h, w).
        """
        inputs: dict[str, npt.NDArray[Any]] = {contract.IMAGE: images, contract.TEXT_EMBEDDING: vectors}
        return self.predictor._generator.run(contract.SALIENCY, inputs)  # noqa: SLF001 - the predictor's very session

    def generator(self, photo: npt.NDArray[np.uint8], prompts: int = 1, batch: int = 1) -> Subject:
        """A run of the generator.

        Args:
            photo: RGB uint8 (H, W, 3); it is resized before.
            prompts: texts for each photo.
            batch: photos.
        """
        images = np.repeat(self.resize(photo)[None], batch, axis=0)
        vectors = np.repeat(self.predictor.embed(self.texts(prompts))[None], batch, axis=0)
        return lambda: self.run(images, vectors)


def photo_of(frame: Frame) -> npt.NDArray[np.uint8]:
    """A sample photo at a frame's size, RGB uint8 (height, width, 3)."""
    return cast(
        "npt.NDArray[np.uint8]",
        cv2.resize(samples.load("coffee"), tuple(frame), interpolation=cv2.INTER_CUBIC),
    )


def stage_subjects(work: Workload, photo: npt.NDArray[np.uint8], folder: Path) -> dict[str, Subject]:
    """Each stage of a prediction alone.

    Args:
        work: the bundle.
        photo: RGB uint8 (H, W, 3).
        folder: where a JPEG of it is written.
    """
    file = folder / f"{photo.shape[1]}x{photo.shape[0]}.jpg"
    write_image(file, photo)
    grid = work.predictor.grids(photo, work.predictor.embed([work.text]))[0]
    result = SaliencyResult.from_grid(photo, work.text, grid)
    subjects: dict[str, Subject] = {
        "decode JPEG": lambda: read_image(file),
        "resize": lambda: work.resize(photo),
    }
    if work.reads_text:
        tokenizer = ClipTokenizer(work.predictor.bundle.read(contract.TOKENIZER_FILE))
        subjects["tokenise"] = lambda: tokenizer.encode(TEXT)
        subjects["text encode, with tokenise"] = work.encode
    return subjects | {
        "generator": work.generator(photo),
        "resize back": lambda: SaliencyResult.from_grid(photo, work.text, grid),
        "draw overlay": result.overlay,
        STREAM_OVERLAY: lambda: render.overlay_grid(photo, grid),
    }


def whole_subjects(work: Workload, photo: npt.NDArray[np.uint8], folder: Path) -> dict[str, Subject]:
    """The session alone, and more and more around it.

    Args:
        work: the bundle.
        photo: RGB uint8 (H, W, 3).
        folder: where a JPEG of it is written.
    """
    file = folder / f"whole-{photo.shape[1]}x{photo.shape[0]}.jpg"
    write_image(file, photo)
    predict = work.predictor.predict
    subjects: dict[str, Subject] = {BARE: work.generator(photo), PREDICT: lambda: predict(photo, work.text)}
    if work.reads_text:
        subjects["predict, new prompt"] = lambda: (work.encode(), predict(photo, work.text))
    subjects["predict from a JPEG, overlay"] = lambda: predict(file, work.text).overlay()
    return subjects


def frame_subjects(work: Workload, photo: npt.NDArray[np.uint8], folder: Path) -> dict[str, Subject]:
    """What depends on the size of the photo.

    Args:
        work: the bundle.
        photo: RGB uint8 (H, W, 3).
        folder: where a JPEG of it is written.
    """
    stages = stage_subjects(work, photo, folder)
    predictor = work.predictor
    vectors = predictor.embed([work.text])
    grid = predictor.grids(photo, vectors)[0]

    def around() -> SaliencyResult:
        predictor.embed([work.text])
        work.resize(photo)
        return SaliencyResult.from_grid(photo, work.text, grid)

    return {
        PREDICT: lambda: predictor.predict(photo, work.text),
        AROUND: around,
        **{name: stages[name] for name in ("decode JPEG", "draw overlay", STREAM_OVERLAY)},
    }
