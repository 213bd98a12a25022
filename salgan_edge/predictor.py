"""Saliency of images for prompts: joins the two graphs of a bundle."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections import OrderedDict, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, overload

import numpy as np

from salgan_edge import contract
from salgan_edge.bundle import EMBEDDED, Bundle, bundle_place
from salgan_edge.cpus import allowed_cpus
from salgan_edge.devices import Device, Execution
from salgan_edge.errors import BundleFormatError, ImageError, InputError, PromptError
from salgan_edge.images import load_image
from salgan_edge.prompts import PromptPack
from salgan_edge.resample import PREPARATION, fit
from salgan_edge.result import SaliencyResult, TextEffect
from salgan_edge.session import GraphSession
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from salgan_edge.images import ImageLike

    FloatMap = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]
    Several = list[str] | list[str | None] | tuple[str | None, ...]
    Texts = str | None | Several

__all__ = ["PromptWarning", "SaliencyPredictor"]

_DEFAULT = Execution()
_SMALL_GRAPH = 2**25
"""Bytes below which a text encoder runs on one thread: the compact one has 7 MB, CLIP's 250."""
_BATCH = 16
"""Images in one run of the generator on another device than the CPU."""


_ABANDONED: list[Any] = []
"""Sessions of a parent process."""


class PromptWarning(UserWarning):
    """A prompt was cut to what the text encoder reads."""


class SaliencyPredictor:
    """Predicts where people look in an image when told a text.

    >>> from salgan_edge import SaliencyPredictor, samples
    >>> with SaliencyPredictor.load() as predictor:
    ...     result = predictor.predict(samples.load("coffee"), "a spoon")
    >>> result.map.shape, result.text
    ((400, 600), 'a spoon')

    Several threads may share one. It can be pickled: a copy loads the bundle again from where it lies, so
    process pools and Ray actors take it as it is. After a fork the child loads its own graphs with its first
    prediction.

    Vectors of the last prompts are kept, so a repeated prompt costs no text encoding. The text encoder
    is loaded with the first prompt that is in no prompt pack.

    Args:
        bundle: opened and verified.
        execution: device, threads and all else that says how to run.
        prompts: vectors that need no text encoder.
        prompt_cache: how many other prompts' vectors are kept, the last ones used.
    """

    def __init__(
        self,
        bundle: Bundle,
        execution: Execution = _DEFAULT,
        prompts: PromptPack | None = None,
        prompt_cache: int = 256,
    ) -> None:
        if prompts is not None:
            prompts.check(bundle.manifest)
        self.bundle = bundle
        self.prompts = prompts
        """Vectors that need no text encoder."""
        self._known = {} if prompts is None else dict(zip(prompts.texts, prompts.vectors, strict=True))
        self._cache_size = max(0, prompt_cache)
        self._asked = execution
        self._execution = execution
        self._vectors: OrderedDict[str, FloatMap] = OrderedDict()
        self._tokenizer: ClipTokenizer | None = None
        self._open()
        if execution.device == "auto" and self.device == "cpu":
            # A fall back is said once, and the text encoder follows.
            self._execution = replace(execution, device="cpu", strict=False)

    def _open(self) -> None:
        """Load the generator in this process; all else follows when it is needed."""
        wanted = self.bundle.manifest.preparation
        if wanted not in ("", PREPARATION):
            raise BundleFormatError(
                f"the bundle is for photos prepared by {wanted}, this salgan-edge has {PREPARATION}: pip install -U salgan-edge"
            )
        self._process = os.getpid()
        self._lock = threading.RLock()
        """Of the vectors, and of what is loaded later."""
        self._text_encoder: GraphSession | None = None
        self._side_by_side: GraphSession | None = None
        generator = self._session(contract.GENERATOR_FILE, self._execution)
        self._require(generator, contract.GENERATOR_FILE, contract.TEXT_EMBEDDING, contract.SALIENCY)
        self._generator: GraphSession | None = generator

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | None = None,
        *,
        device: Device = "auto",
        threads: int | None = None,
        prompts: PromptPack | str | os.PathLike[str] | None = None,
        execution: Execution | None = None,
        prompt_cache: int = 256,
    ) -> Self:
        """Load a bundle.

        Args:
            bundle: ``default`` or ``small``, which are installed with the package, a bundle folder or a
                ``.salgan`` file; ``default`` where None.
            device: a name of `salgan_edge.devices.DEVICES`, or ``auto`` for CUDA where it works and the CPU
                elsewhere.
            threads: CPU threads; all allowed CPUs where None.
            prompts: prompt pack, or its file: its texts need no text encoder.
            execution: all that can be said about how to run, in place of `device` and `threads`.
            prompt_cache: how many other prompts' vectors are kept.

        Warns:
            DeviceWarning: `auto` found CUDA listed but not working.

        Raises:
            InputError: the prompt pack cannot be used, or was made by another text encoder.
            BundleFormatError: no bundle, one of a newer format, or graphs that break the contract.
            BundleIntegrityError: a file of the bundle is missing, truncated or changed.
            DeviceError: a device asked for by name is not usable.
            MissingDependencyError: neither onnxruntime package is installed.
        """
        pack = (
            prompts if prompts is None or isinstance(prompts, PromptPack) else PromptPack.load(Path(prompts))
        )
        return cls(
            Bundle.open(bundle_place(bundle), keep=(contract.GENERATOR_FILE,)),
            execution or Execution(device, threads),
            pack,
            prompt_cache,
        )

    def close(self) -> None:
        """Give the graphs' memory back; predicting is refused from then on. More than once is fine."""
        with self._lock:
            self._generator = self._text_encoder = self._side_by_side = None
            self._vectors.clear()

    def __enter__(self) -> Self:
        """The predictor itself, closed when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Bundle and device in a line."""
        state = "closed" if self._generator is None else self.device
        return f"SaliencyPredictor({self.bundle.manifest.name} {self.bundle.manifest.bundle_id}, {state})"

    def __reduce__(self) -> tuple[Any, ...]:
        """The bundle's place, not its content; an installed one by its name."""
        place = self.bundle.place
        embedded = next((name for name in EMBEDDED if bundle_place(name) == place), None)
        where = embedded or str(place.absolute())
        arguments = (where, self.bundle.manifest.bundle_id, self._asked, self.prompts, self._cache_size)
        return _reopened, (type(self), *arguments)

    @property
    def generator(self) -> GraphSession:
        """The loaded generator, in this process.

        Raises:
            InputError: the predictor is closed.
        """
        if self._generator is None:
            raise InputError("the predictor is closed: load it again")
        if self._process != os.getpid():
            # Threads of a graph's session do not live on in a forked child: a run would wait for them for ever, and
            # so would the end of the session.
            _ABANDONED.extend((self._generator, self._text_encoder, self._side_by_side))
            self._open()
        return self._generator

    @property
    def device(self) -> str:
        """Where the generator runs: a name of `salgan_edge.devices.DEVICES`."""
        return self.generator.device

    @property
    def placement(self) -> dict[str, int] | None:
        """Number of the generator's operators on each execution provider.

        None where there is no record: on the CPU, which has them all, and before onnxruntime 1.24.
        """
        return self.generator.placement

    @overload
    def predict(
        self, image: ImageLike, text: str | None = None, *, bgr: bool = False, text_effect: bool = True
    ) -> SaliencyResult: ...

    @overload
    def predict(
        self, image: ImageLike, text: Several, *, bgr: bool = False, text_effect: bool = True
    ) -> list[SaliencyResult]: ...

    def predict(
        self, image: ImageLike, text: Texts = None, *, bgr: bool = False, text_effect: bool = True
    ) -> SaliencyResult | list[SaliencyResult]:
        """Saliency of one image for one text or several.

        Args:
            image: path of an image, its content as bytes or a file object, a Pillow image, or an array:
                grey (H, W), RGB (H, W, 3) or RGBA (H, W, 4), of type uint8, uint16 or float in 0..1, with
                numpy's array interface or DLPack. See `salgan_edge.images.load_image`.
            text: what the viewer is told; None for free viewing. A list gives a list of results
                from one pass of the image.
            bgr: an array's colours are in OpenCV's order.
            text_effect: also compare with free viewing, `SaliencyResult.text_effect`: costs as much as one
                more text.

        Returns:
            One result, or a list of them in the order of the texts.

        Raises:
            ImageError: the image cannot be read or is of no known kind.
            PromptError: a text is empty or no text, the list of texts is empty, or the bundle was packed
                without text encoder and a text is in no prompt pack.
        """
        started = time.perf_counter()
        pixels = load_image(image, bgr=bgr)
        decoded = time.perf_counter()
        texts = _texts_of(text)
        asked, vectors = self._asking(texts, text_effect=text_effect)
        encoded = time.perf_counter()
        maps = self.grids(pixels, vectors)
        generated = time.perf_counter()
        milliseconds = {
            "decode": 1000 * (decoded - started),
            "text": 1000 * (encoded - decoded),
            "generator": 1000 * (generated - encoded),
        }
        results = self._results(pixels, asked, maps, milliseconds)[: len(texts)]
        return results[0] if text is None or isinstance(text, str) else results

    @overload
    def predict_batch(
        self,
        images: Sequence[ImageLike],
        texts: Texts = None,
        *,
        bgr: bool = False,
        text_effect: bool = True,
        workers: int | None = None,
    ) -> list[SaliencyResult]: ...

    @overload
    def predict_batch(
        self,
        images: Sequence[ImageLike],
        texts: list[Several] | tuple[Several, ...],
        *,
        bgr: bool = False,
        text_effect: bool = True,
        workers: int | None = None,
    ) -> list[list[SaliencyResult]]: ...

    def predict_batch(
        self,
        images: Sequence[ImageLike],
        texts: Texts | list[Several] | tuple[Several, ...] = None,
        *,
        bgr: bool = False,
        text_effect: bool = True,
        workers: int | None = None,
    ) -> list[SaliencyResult] | list[list[SaliencyResult]]:
        """Saliency of several images, of any sizes.

        >>> from salgan_edge import SaliencyPredictor, samples
        >>> images = [samples.load("coffee"), samples.load("chelsea")]
        >>> results = SaliencyPredictor.load(device="cpu").predict_batch(images, ["a cup", "an ear"])
        >>> [(result.text, result.map.shape) for result in results]
        [('a cup', (400, 600)), ('an ear', (300, 451))]

        On the CPU images are worked on side by side, one thread each. Elsewhere images that reach the
        graph at the same size go through it together.

        Args:
            images: each as `predict` takes them.
            texts: one text (or None) for all images; or a sequence with an entry for each image, a text
                or a list of texts.
            bgr: arrays' colours are in OpenCV's order.
            text_effect: also compare with free viewing.
            workers: images at once on the CPU; as many as there are allowed CPUs where None.

        Returns:
            A result for each image, or a list of results where each entry of `texts` is a list.

        Raises:
            ImageError: an image cannot be read; the message says which.
            PromptError: texts are empty or do not fit the images.
        """
        if isinstance(images, (str, bytes, os.PathLike)):
            raise ImageError("one image was given: a list of images was expected, predict takes one")
        images = list(images)
        entries = self._entries(len(images), texts)
        texts_of = [_texts_of(entry) for entry in entries]
        # Texts are encoded once, together: N images with one text are one run of the text encoder.
        every = list(dict.fromkeys(text for texts in texts_of for text in texts))
        if every:
            self.embed(every)
        if self.device == "cpu":
            answers = self._on_workers(images, texts_of, bgr, text_effect, workers or allowed_cpus())
        else:
            answers = self._in_batches(images, texts_of, bgr, text_effect)
        if any(entry is not None and not isinstance(entry, str) for entry in entries):
            return answers
        return [results[0] for results in answers]

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
        maps: FloatMap = self._run(self.generator, self._fit(image)[None], vectors[None])[0]
        return maps

    def embed(self, texts: str | Sequence[str | None]) -> npt.NDArray[np.float32]:
        """Text vectors (N, dimension); the zero vector for None.

        Vectors of the prompt pack's texts are taken from it.

        Args:
            texts: several, or one, which gives one row.

        Warns:
            PromptWarning: a text was cut to 77 tokens; the message names what was dropped.

        Raises:
            PromptError: a text is empty, or it is in no prompt pack and the bundle has no text encoder.
        """
        _ = self.generator  # refused where it is closed; a forked child loads its own
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            _check_text(text)
        found = {text: self._known[text] for text in texts if text is not None and text in self._known}
        with self._lock:
            for text in texts:
                if text is not None and text in self._vectors:
                    self._vectors.move_to_end(text)
                    found[text] = self._vectors[text]
        missing = list(dict.fromkeys(text for text in texts if text is not None and text not in found))
        if missing:
            # Outside the lock: a thread whose prompts are known need not wait for another's new ones.
            fresh = dict(zip(missing, self._encode(missing), strict=True))
            found.update(fresh)
            with self._lock:
                self._vectors.update(fresh)
                while len(self._vectors) > self._cache_size:
                    self._vectors.popitem(last=False)
        zero = np.zeros(self.bundle.manifest.embedding_dimension, np.float32)
        rows = [zero if text is None else found[text] for text in texts]
        return np.stack(rows) if rows else np.empty((0, len(zero)), np.float32)

    def bake(self, texts: str | Sequence[str]) -> PromptPack:
        """A prompt pack of texts, for this bundle and every other with the same text encoder.

        Warns:
            PromptWarning: a text was cut to 77 tokens.

        Raises:
            PromptError: there are no texts, one is empty or occurs twice, or it is in no prompt pack and
                the bundle has no text encoder.
        """
        manifest = self.bundle.manifest
        texts = (texts,) if isinstance(texts, str) else tuple(texts)
        return PromptPack(
            texts, self.embed(texts), manifest.bundle_id, manifest.text_space, manifest.text_key
        )

    def _encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        if not self.bundle.has(contract.TEXT_ENCODER_FILE):
            self._refuse(texts[0])
        tokenizer, session = self._text_side()
        encoded = [tokenizer.encode(text) for text in texts]
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
        ids = np.asarray([tokens.ids for tokens in encoded], np.int64)
        return session.run(contract.TEXT_EMBEDDING, {contract.INPUT_IDS: ids})

    def _text_side(self) -> tuple[ClipTokenizer, GraphSession]:
        """Tokenizer and text encoder, loaded with the first text that needs them."""
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = ClipTokenizer(self.bundle.read(contract.TOKENIZER_FILE))
            if self._text_encoder is None:
                session = self._session(contract.TEXT_ENCODER_FILE, self._execution)
                self._require(
                    session, contract.TEXT_ENCODER_FILE, contract.INPUT_IDS, contract.TEXT_EMBEDDING
                )
                dimension = session.outputs[contract.TEXT_EMBEDDING][1][-1]
                if dimension != self.bundle.manifest.embedding_dimension:
                    raise BundleFormatError(
                        f"the text encoder gives vectors of length {dimension}, the generator reads "
                        f"{self.bundle.manifest.embedding_dimension}: export both together again"
                    )
                self._text_encoder = session
            return self._tokenizer, self._text_encoder

    def _refuse(self, text: str) -> NoReturn:
        """Say why a text has no vector, and what to do."""
        if self.prompts is not None:
            self.prompts.select([text])
        raise PromptError(
            f'the bundle was packed without text encoder, so "{text}" has no vector: bake it with salgan-edge bake '
            "and the whole bundle, and give the file with --prompt-pack (prompts= in Python)"
        )

    def _fit(self, image: Pixels) -> Pixels:
        return fit(image, *self.bundle.manifest.input_size)

    def _run(self, session: GraphSession, images: Pixels, vectors: FloatMap) -> FloatMap:
        """Saliency (B, N, h, w) of images (B, H, W, 3) and vectors (B, N, dimension)."""
        inputs: dict[str, npt.NDArray[Any]] = {contract.IMAGE: images, contract.TEXT_EMBEDDING: vectors}
        return session.run(contract.SALIENCY, inputs)

    def _asking(self, texts: list[str | None], *, text_effect: bool) -> tuple[list[str | None], FloatMap]:
        """What the generator is asked, free viewing after all else where it is compared with; and its vectors."""
        told = any(text is not None for text in texts)
        asked = [*texts, None] if text_effect and told and None not in texts else texts
        return asked, self.embed(asked)

    def _results(
        self, pixels: Pixels, asked: Sequence[str | None], maps: FloatMap, milliseconds: dict[str, float]
    ) -> list[SaliencyResult]:
        """A result for each map (N, h, w) of an image."""
        free = maps[asked.index(None)] if None in asked else None
        results = []
        for text, grid in zip(asked, maps, strict=True):
            before = time.perf_counter()
            result = SaliencyResult.from_grid(pixels, text, grid)
            after = time.perf_counter()
            result.milliseconds.update(milliseconds, resize=1000 * (after - before))
            result.device = self.device
            result.bundle_id = self.bundle.manifest.bundle_id
            result.placement = self.placement
            if free is not None and text is not None:
                result.text_effect = TextEffect.of(grid, free)
            results.append(result)
        return results

    @staticmethod
    def _entries(count: int, texts: Any) -> list[Texts]:
        """What each of `count` images is asked."""
        if texts is None or isinstance(texts, str):
            return [texts] * count
        if not isinstance(texts, (list, tuple)):
            raise PromptError(
                f"a {type(texts).__name__} was given as texts: a str, None or a list was expected"
            )
        if len(texts) != count:
            raise PromptError(
                f"there are {count} images and {len(texts)} texts: give one text for all, or one entry (a text or a list of texts) for each"
            )
        lists = [isinstance(entry, (list, tuple)) for entry in texts]
        if any(lists) and not all(lists):
            raise PromptError("some images have a list of texts and some a single one: give a list for each")
        return list(texts)

    def _on_workers(
        self,
        images: list[ImageLike],
        texts: list[list[str | None]],
        bgr: bool,
        text_effect: bool,
        workers: int,
    ) -> list[list[SaliencyResult]]:
        """Images side by side, one thread each: more images a second than all threads for one at a time."""
        if workers < 1:
            raise InputError(f"{workers} workers were asked for: at least one was expected")
        generator = self.generator
        with self._lock:
            if self._side_by_side is None and workers > 1 and len(images) > 1:
                alone = replace(self._execution, threads=1, spinning=False)
                self._side_by_side = self._session(contract.GENERATOR_FILE, alone)
            session = self._side_by_side or generator

        def work(number: int) -> list[SaliencyResult]:
            started = time.perf_counter()
            pixels = self._loaded(images[number], number, bgr)
            decoded = time.perf_counter()
            asked, vectors = self._asking(texts[number], text_effect=text_effect)
            encoded = time.perf_counter()
            maps = self._run(session, self._fit(pixels)[None], vectors[None])[0]
            milliseconds = {
                "decode": 1000 * (decoded - started),
                "text": 1000 * (encoded - decoded),
                "generator": 1000 * (time.perf_counter() - encoded),
            }
            return self._results(pixels, asked, maps, milliseconds)[: len(texts[number])]

        with ThreadPoolExecutor(min(workers, max(1, len(images)))) as pool:
            return list(pool.map(work, range(len(images))))

    def _in_batches(
        self, images: list[ImageLike], texts: list[list[str | None]], bgr: bool, text_effect: bool
    ) -> list[list[SaliencyResult]]:
        """Images that reach the graph at the same size, with the same number of texts, in one run of it."""
        answers: list[list[SaliencyResult]] = [[] for _ in images]
        groups: defaultdict[tuple[int, ...], list[tuple[int, Pixels, Pixels, list[str | None], FloatMap]]] = (
            defaultdict(list)
        )

        def run(group: list[tuple[int, Pixels, Pixels, list[str | None], FloatMap]]) -> None:
            started = time.perf_counter()
            fitted, vectors = np.stack([entry[2] for entry in group]), np.stack([entry[4] for entry in group])
            batch = self._run(self.generator, fitted, vectors)
            milliseconds = {"generator": 1000 * (time.perf_counter() - started) / len(group)}
            for (number, pixels, _, asked, _), maps in zip(group, batch, strict=True):
                answers[number] = self._results(pixels, asked, maps, milliseconds)[: len(texts[number])]
            group.clear()

        for number, image in enumerate(images):
            pixels = self._loaded(image, number, bgr)
            fitted = self._fit(pixels)
            asked, vectors = self._asking(texts[number], text_effect=text_effect)
            group = groups[*fitted.shape, len(asked)]
            group.append((number, pixels, fitted, asked, vectors))
            if len(group) == _BATCH:
                run(group)
        for group in groups.values():
            if group:
                run(group)
        return answers

    @staticmethod
    def _loaded(image: ImageLike, number: int, bgr: bool) -> Pixels:
        try:
            return load_image(image, bgr=bgr)
        except ImageError as error:
            raise ImageError(f"images[{number}]: {error}") from error

    def _session(self, name: str, execution: Execution) -> GraphSession:
        content = self.bundle.read(name)
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


def _texts_of(text: Any) -> list[str | None]:
    """One text or several as a list.

    Raises:
        PromptError: none of these, or an empty list.
    """
    if not isinstance(text, (str, list, tuple, type(None))):
        raise PromptError(f"a {type(text).__name__} was given as text: a str, None or a list was expected")
    texts = [text] if text is None or isinstance(text, str) else list(text)
    if not texts:
        raise PromptError("the list of texts is empty: give at least one text, or None for free viewing")
    return texts


def _reopened(
    kind: type[SaliencyPredictor],
    place: str,
    bundle_id: str,
    execution: Execution,
    prompts: PromptPack | None,
    cache: int,
) -> SaliencyPredictor:
    """A predictor of another process.

    Raises:
        BundleFormatError: another bundle lies in its place now.
    """
    predictor = kind.load(place, execution=execution, prompts=prompts, prompt_cache=cache)
    if predictor.bundle.manifest.bundle_id != bundle_id:
        raise BundleFormatError(
            f"{place} holds bundle {predictor.bundle.manifest.bundle_id}, {bundle_id} was expected: load the predictor anew"
        )
    return predictor
