"""Saliency of images for prompts: joins the two graphs of a bundle."""

from __future__ import annotations

import time
import warnings
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, overload

import numpy as np

from salgan_edge import contract
from salgan_edge.bundle import Bundle, bundle_place
from salgan_edge.devices import Device, Execution
from salgan_edge.errors import BundleFormatError, ImageError, PromptError
from salgan_edge.images import read_image
from salgan_edge.prompts import PromptPack
from salgan_edge.resample import fit
from salgan_edge.result import SaliencyResult
from salgan_edge.session import GraphSession
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["PromptWarning", "SaliencyPredictor"]

_DEFAULT = Execution()
_SMALL_GRAPH = 2**25
"""Bytes below which a text encoder runs on one thread: the compact one has 7 MB, CLIP's 250."""
_CACHED_PROMPTS = 256


class PromptWarning(UserWarning):
    """A prompt was cut to what the text encoder reads."""


class SaliencyPredictor:
    """Predicts where people look in an image when told a text.

    >>> predictor = SaliencyPredictor.load()
    >>> predictor.predict("samples/coffee.jpg", "a spoon").peak  # doctest: +SKIP
    (349, 261)

    Vectors of the last 256 prompts are kept, so a repeated prompt costs no text encoding. The
    text encoder is loaded with the first prompt that is in no prompt pack. Not safe to share between
    threads, but for `grids`.
    """

    def __init__(
        self,
        bundle: Bundle,
        execution: Execution = _DEFAULT,
        prompts: PromptPack | None = None,
    ) -> None:
        if prompts is not None:
            prompts.check(bundle.manifest)
        self.bundle = bundle
        self.prompts = prompts
        """Vectors that need no text encoder."""
        self._known = {} if prompts is None else dict(zip(prompts.texts, prompts.vectors, strict=True))
        self._execution = execution
        self._generator = self._session(contract.GENERATOR_FILE)
        if execution.device == "auto" and self._generator.device == "cpu":
            # A fall back is said once, and the text encoder follows.
            self._execution = replace(execution, device="cpu", strict=False)
        self._require(self._generator, contract.GENERATOR_FILE, contract.TEXT_EMBEDDING, contract.SALIENCY)
        self._text_encoder: GraphSession | None = None
        self._tokenizer: ClipTokenizer | None = None
        self._vectors: OrderedDict[str, npt.NDArray[np.float32]] = OrderedDict()

    @classmethod
    def load(
        cls,
        bundle: str | Path | None = None,
        *,
        device: Device = "auto",
        threads: int | None = None,
        prompts: PromptPack | str | Path | None = None,
        execution: Execution | None = None,
    ) -> SaliencyPredictor:
        """Load a bundle.

        Args:
            bundle: ``default`` or ``small``, which are installed with the package, a bundle folder or a
                ``.salgan`` file; ``default`` where None.
            device: a name of `salgan_edge.devices.DEVICES`, or ``auto`` for CUDA where it works and the CPU
                elsewhere.
            threads: CPU threads; all allowed CPUs where None.
            prompts: prompt pack, or its file: its texts need no text encoder.
            execution: all that can be said about how to run, in place of `device` and `threads`.

        Warns:
            DeviceWarning: `auto` found CUDA listed but not working.

        Raises:
            InputError: the prompt pack cannot be used, or was made by another text encoder.
            BundleFormatError: no bundle, one of a newer format, or graphs that break the contract.
            BundleIntegrityError: a file of the bundle is missing, truncated or changed.
            DeviceError: a device asked for by name is not usable.
            MissingDependencyError: neither onnxruntime package is installed.
        """
        pack = PromptPack.load(Path(prompts)) if isinstance(prompts, str | Path) else prompts
        return cls(
            Bundle.open(bundle_place(bundle), keep=(contract.GENERATOR_FILE,)),
            execution or Execution(device, threads),
            pack,
        )

    @property
    def device(self) -> str:
        """Where the generator runs: a name of `salgan_edge.devices.DEVICES`."""
        return self._generator.device

    @property
    def placement(self) -> dict[str, int] | None:
        """Number of the generator's operators on each execution provider.

        None where there is no record: on the CPU, which has them all, and before onnxruntime 1.24.
        """
        return self._generator.placement

    @overload
    def predict(
        self, image: str | Path | npt.NDArray[np.uint8], text: str | None = None
    ) -> SaliencyResult: ...

    @overload
    def predict(
        self, image: str | Path | npt.NDArray[np.uint8], text: list[str] | list[str | None]
    ) -> list[SaliencyResult]: ...

    def predict(
        self,
        image: str | Path | npt.NDArray[np.uint8],
        text: str | list[str] | list[str | None] | None = None,
    ) -> SaliencyResult | list[SaliencyResult]:
        """Saliency of one image for one text or several.

        Args:
            image: path of an image, or RGB uint8 (H, W, 3).
            text: what the viewer is told; None for free viewing. A list gives a list of results
                from one pass of the image.

        Returns:
            One result, or a list of them in the order of the texts.

        Raises:
            ImageError: the image cannot be read or is no RGB uint8 array.
            PromptError: a text is empty or no text, the list of texts is empty, or the bundle was packed
                without text encoder and a text is in no prompt pack.
        """
        started = time.perf_counter()
        pixels = _pixels(image)
        decoded = time.perf_counter()
        if not isinstance(text, (str, list, tuple, type(None))):
            raise PromptError(
                f"a {type(text).__name__} was given as text: a str, None or a list was expected"
            )
        texts: list[str | None] = [text] if text is None or isinstance(text, str) else list(text)
        if not texts:
            raise PromptError("the list of texts is empty: give at least one text, or None for free viewing")
        vectors = self.embed(texts)
        encoded = time.perf_counter()
        maps = self.grids(pixels, vectors)
        generated = time.perf_counter()
        milliseconds = {
            "decode": 1000 * (decoded - started),
            "text": 1000 * (encoded - decoded),
            "generator": 1000 * (generated - encoded),
        }
        results = []
        for prompt, grid in zip(texts, maps, strict=True):
            before = time.perf_counter()
            result = SaliencyResult.from_grid(pixels, prompt, grid)
            after = time.perf_counter()
            result.milliseconds.update(milliseconds, resize=1000 * (after - before))
            results.append(result)
        return results[0] if text is None or isinstance(text, str) else results

    def grids(
        self, image: npt.NDArray[np.uint8], vectors: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """The generator's own output, for streams. On the CPU, several threads may call it at once.

        Args:
            image: RGB uint8 (H, W, 3).
            vectors: text vectors (N, dimension) of `embed`.

        Returns:
            Saliency (N, h, w) on the generator's grid, 0..1, relative to the largest of each.
        """
        inputs: dict[str, npt.NDArray[Any]] = {
            contract.IMAGE: fit(image, *self.bundle.manifest.input_size)[None],
            contract.TEXT_EMBEDDING: vectors[None],
        }
        maps: npt.NDArray[np.float32] = self._generator.run(contract.SALIENCY, inputs)[0]
        return maps

    def embed(self, texts: Sequence[str | None]) -> npt.NDArray[np.float32]:
        """Text vectors (N, dimension); the zero vector for None.

        Vectors of the prompt pack's texts are taken from it.

        Warns:
            PromptWarning: a text was cut to 77 tokens; the message names what was dropped.

        Raises:
            PromptError: a text is empty, or it is in no prompt pack and the bundle has no text encoder.
        """
        for text in texts:
            _check_text(text)
        new = list(dict.fromkeys(t for t in texts if t is not None and t not in self._known))
        missing = [text for text in new if text not in self._vectors]
        fresh = dict(zip(missing, self._encode(missing), strict=True)) if missing else {}
        for text in new:
            if text in fresh:
                self._vectors[text] = fresh[text]
            self._vectors.move_to_end(text)
        zero = np.zeros(self.bundle.manifest.embedding_dimension, np.float32)
        rows = [
            zero if text is None else self._known[text] if text in self._known else self._vectors[text]
            for text in texts
        ]
        while len(self._vectors) > _CACHED_PROMPTS:
            self._vectors.popitem(last=False)
        return np.stack(rows)

    def bake(self, texts: Sequence[str]) -> PromptPack:
        """A prompt pack of texts, for this bundle and every other with the same text encoder.

        Warns:
            PromptWarning: a text was cut to 77 tokens.

        Raises:
            PromptError: there are no texts, one is empty or occurs twice, or it is in no prompt pack and
                the bundle has no text encoder.
        """
        manifest = self.bundle.manifest
        vectors = self.embed(texts) if texts else np.empty((0, manifest.embedding_dimension), np.float32)
        return PromptPack(tuple(texts), vectors, manifest.bundle_id, manifest.text_space, manifest.text_key)

    def _encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        if not self.bundle.has(contract.TEXT_ENCODER_FILE):
            self._refuse(texts[0])
        if self._tokenizer is None:
            self._tokenizer = ClipTokenizer(self.bundle.read(contract.TOKENIZER_FILE))
        encoded = [self._tokenizer.encode(text) for text in texts]
        for text, tokens in zip(texts, encoded, strict=True):
            if tokens.dropped:
                words = tokens.dropped.split()
                shown = " ".join(words[:6]) + (f" ... {words[-1]}" if len(words) > 6 else "")
                warnings.warn(
                    f"the text has more than {contract.CONTEXT_LENGTH} tokens and was cut: "
                    f'"{shown}" ({len(words)} of {len(text.split())} words) was dropped',
                    PromptWarning,
                    stacklevel=4,
                )
        if self._text_encoder is None:
            session = self._session(contract.TEXT_ENCODER_FILE)
            self._require(session, contract.TEXT_ENCODER_FILE, contract.INPUT_IDS, contract.TEXT_EMBEDDING)
            dimension = session.outputs[contract.TEXT_EMBEDDING][1][-1]
            if dimension != self.bundle.manifest.embedding_dimension:
                raise BundleFormatError(
                    f"the text encoder gives vectors of length {dimension}, the generator reads "
                    f"{self.bundle.manifest.embedding_dimension}: export both together again"
                )
            self._text_encoder = session
        ids = np.asarray([tokens.ids for tokens in encoded], np.int64)
        return self._text_encoder.run(contract.TEXT_EMBEDDING, {contract.INPUT_IDS: ids})

    def _refuse(self, text: str) -> NoReturn:
        """Say why a text has no vector, and what to do."""
        if self.prompts is not None:
            self.prompts.select([text])
        raise PromptError(
            f'the bundle was packed without text encoder, so "{text}" has no vector: bake it with salgan-edge bake '
            "and the whole bundle, and give the file with --prompts (prompts= in Python)"
        )

    def _session(self, name: str) -> GraphSession:
        content = self.bundle.read(name)
        execution = self._execution
        if name == contract.TEXT_ENCODER_FILE and len(content) < _SMALL_GRAPH:
            # Two pools of threads that wait spinning take each other's cores: a new prompt would cost
            # the generator's next run more than several threads save here.
            execution = replace(execution, threads=1)
        session = GraphSession(content, execution, name=name)
        found = session.metadata.get(contract.META_BUNDLE_ID)
        if found != self.bundle.manifest.bundle_id:
            raise BundleFormatError(
                f"{name} belongs to bundle {found or 'none'}, the manifest is of {self.bundle.manifest.bundle_id}: "
                "do not mix files of two bundles, export again"
            )
        return session

    @staticmethod
    def _require(session: GraphSession, name: str, graph_input: str, output: str) -> None:
        if graph_input not in session.inputs or output not in session.outputs:
            raise BundleFormatError(
                f"{name} has inputs {', '.join(session.inputs)} and outputs {', '.join(session.outputs)}: "
                f"{graph_input} and {output} were expected"
            )


def _check_text(text: object) -> None:
    if text is None:
        return
    if not isinstance(text, str):
        raise PromptError(f"a {type(text).__name__} was given as text: a str or None was expected")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PromptError(f"the text {text!r} is not valid Unicode: type it in UTF-8") from None


def _pixels(image: str | Path | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    if not isinstance(image, np.ndarray):
        raise ImageError(
            f"a {type(image).__name__} was given: a path or an RGB uint8 array (H, W, 3) was expected"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"an array {image.dtype} {image.shape} was given: RGB uint8 (H, W, 3) was expected")
    if 0 in image.shape:
        raise ImageError(f"the image has no pixels: its shape is {image.shape}")
    return image
