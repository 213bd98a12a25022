"""Prompt packs: vectors of known texts, so that a device needs the generator alone."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from salgan_edge import stored_zip
from salgan_edge.errors import BundleError, InputError, PromptError
from salgan_edge.files import writing

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping, Sequence

    import numpy.typing as npt

    from salgan_edge.bundle import Manifest

__all__ = ["PROMPT_FORMAT_VERSION", "PromptPack", "load_prompts"]

PROMPT_FORMAT_VERSION = 1
"""Version of the file's layout; a reader refuses a newer one."""

_ARRAYS = ("format_version", "texts", "vectors", "bundle_id", "text_space", "text_key")
_BAKE = "make it with salgan-edge bake"


@dataclass(frozen=True, eq=False)
class PromptPack:
    """Texts and their vectors, as a bundle's text encoder gave them.

    A generator may be given them if its bundle has, or was packed without, the same text encoder and
    tokenizer: `check` compares. Vectors of another encoder are refused, even one of the same text
    space, because two encoders place the same text differently.

    >>> from salgan_edge import SaliencyPredictor
    >>> pack = SaliencyPredictor.load().bake(["my keys", "a red mug"])
    >>> "my keys" in pack, pack.vectors.shape
    (True, (2, 512))

    Raises:
        PromptError: no text, one that is empty or occurs twice, or vectors that do not fit the texts.
    """

    texts: tuple[str, ...]
    vectors: npt.NDArray[np.float32]
    """(N, dimension), each of length 1; read-only."""
    bundle_id: str
    """The bundle whose text encoder made the vectors."""
    text_space: str
    """Its manifest's `text_space`."""
    text_key: str
    """Its manifest's `text_key`."""

    def __post_init__(self) -> None:
        """Check what was given, and make the vectors read-only."""
        vectors = np.array(self.vectors, np.float32)
        if not self.texts:
            raise PromptError("there are no texts: give at least one")
        empty = [text for text in self.texts if not text.strip() or "\0" in text]
        if empty:
            raise PromptError(f"the text {empty[0]!a} is empty or holds a zero byte: give a description")
        if len(set(self.texts)) < len(self.texts):
            twice = next(text for text in self.texts if self.texts.count(text) > 1)
            raise PromptError(f'the text "{twice}" occurs twice: give it once')
        if vectors.ndim != 2 or len(vectors) != len(self.texts):
            raise PromptError(
                f"there are {len(self.texts)} texts and vectors of shape {vectors.shape}: a row for each text was expected"
            )
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        if not np.all(np.abs(lengths - 1) < 0.01):
            raise PromptError(
                "a vector has not the length 1, which every text encoder of salgan-edge gives: bake the texts again"
            )
        vectors.flags.writeable = False
        object.__setattr__(self, "vectors", vectors)

    def __reduce__(self) -> tuple[Any, ...]:
        """Checked, and read-only, in another process too."""
        return type(self), (self.texts, self.vectors, self.bundle_id, self.text_space, self.text_key)

    def __contains__(self, text: object) -> bool:
        """Whether a text is in the pack, letter for letter."""
        return text in self.texts

    def select(self, texts: Sequence[str]) -> PromptPack:
        """A pack of some of the texts, in the given order, each once.

        Raises:
            PromptError: a text is not in the pack; the message names the closest that are.
        """
        rows = {text: row for row, text in enumerate(self.texts)}
        for text in texts:
            if text not in rows:
                raise PromptError(
                    f'the prompt pack does not hold "{text}": {self._closest(text)}; or bake it'
                )
        chosen = list(dict.fromkeys(texts))
        vectors = self.vectors[[rows[text] for text in chosen]]
        return PromptPack(tuple(chosen), vectors, self.bundle_id, self.text_space, self.text_key)

    def vector(self, text: str) -> npt.NDArray[np.float32]:
        """The vector (dimension,) of a text.

        Raises:
            PromptError: it is not in the pack; the message names the closest that are.
        """
        vector: npt.NDArray[np.float32] = self.select([text]).vectors[0]
        return vector

    def check(self, manifest: Manifest) -> None:
        """Whether a bundle's generator may be given these vectors.

        Raises:
            InputError: they were made by another text encoder than the bundle's.
        """
        cure = "bake the texts again with --bundle and a bundle that has this text encoder"
        if self.text_space != manifest.text_space:
            raise InputError(
                f"the prompt pack is of text space {self.text_space}, "
                f"bundle {manifest.bundle_id} of {manifest.text_space}: {cure}"
            )
        dimension = self.vectors.shape[1]
        if dimension != manifest.embedding_dimension:
            raise InputError(
                f"the prompt pack has vectors of length {dimension}, "
                f"bundle {manifest.bundle_id} reads {manifest.embedding_dimension}: {cure}"
            )
        if not self.text_key or self.text_key != manifest.text_key:
            raise InputError(
                f"the prompt pack was made by another text encoder (of bundle {self.bundle_id}) "
                f"than that of bundle {manifest.bundle_id}: {cure}"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the pack, an ``.npz`` file; the same pack gives the same bytes.

        Raises:
            OutputError: it cannot be written.
        """
        with writing(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                format_version=np.array(PROMPT_FORMAT_VERSION, np.int64),
                texts=np.array(self.texts),
                vectors=self.vectors,
                bundle_id=np.array(self.bundle_id),
                text_space=np.array(self.text_space),
                text_key=np.array(self.text_key),
            )

    @staticmethod
    def load(path: str | os.PathLike[str]) -> PromptPack:
        """Read a pack. Nothing in the file is executed, and it cannot ask for more memory than it has bytes.

        Raises:
            InputError: the file does not exist, is no prompt pack, is damaged, or of a newer version.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path} does not exist: a prompt pack was expected, {_BAKE}")
        try:
            # Uncompressed, known names, sizes that fit the file.
            sizes = stored_zip.entries(path, [f"{name}.npy" for name in _ARRAYS])
            with np.load(path, allow_pickle=False) as file:
                _check_version(path, sizes, file)
                return _read(file)
        except BundleError as error:
            raise InputError(f"{path} is no prompt pack: {_BAKE}") from error
        except PromptError as error:
            raise InputError(f"{path} is damaged: {error}") from error
        except InputError:
            raise
        except Exception as error:  # numpy raises many kinds for damaged arrays
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"{path} is damaged ({reason}): {_BAKE}") from error

    def _closest(self, text: str) -> str:
        shown = {known.lower(): known for known in self.texts}
        near = difflib.get_close_matches(text.lower(), shown, n=3, cutoff=0.4)
        listed = ", ".join(f'"{shown[name]}"' for name in near)
        if listed:
            return f"the closest of its {len(self.texts)} texts are {listed}"
        listed = ", ".join(f'"{name}"' for name in self.texts[:3])
        return f"it holds {len(self.texts)} texts, such as {listed}"


def load_prompts(path: Path | None, texts: Sequence[str | None]) -> PromptPack | None:
    """The prompt pack of a file with the given texts alone, or all of its texts where none is given.

    Args:
        path: the file; None for no prompt pack.
        texts: None among them is left out: free viewing needs no vector.

    Raises:
        InputError: the file cannot be used.
        PromptError: a text is not in it.
    """
    if path is None:
        return None
    pack = PromptPack.load(path)
    chosen = [text for text in texts if text is not None]
    return pack.select(chosen) if chosen else pack


def _check_version(path: Path, names: Collection[str], file: Mapping[str, npt.NDArray[Any]]) -> None:
    missing = [name for name in _ARRAYS if f"{name}.npy" not in names]
    if missing:
        raise InputError(f"{path} has no {missing[0]}: this is no prompt pack, {_BAKE}")
    version = int(file["format_version"])
    if version > PROMPT_FORMAT_VERSION:
        raise InputError(
            f"{path} is a prompt pack of version {version}, this salgan-edge reads up to "
            f"{PROMPT_FORMAT_VERSION}: pip install -U salgan-edge"
        )


def _read(file: Mapping[str, npt.NDArray[Any]]) -> PromptPack:
    vectors = file["vectors"]
    if vectors.dtype != np.float32 or vectors.ndim != 2:
        raise TypeError(f"vectors are {vectors.dtype} {vectors.shape}, float32 (N, dimension) was expected")
    # Counted before they are read one by one: empty strings take no bytes in the file.
    texts = _strings(file["texts"], (len(vectors),))
    names = [_strings(file[name], ()) for name in ("bundle_id", "text_space", "text_key")]
    return PromptPack(tuple(texts.tolist()), vectors, *(name.item() for name in names))


def _strings(values: npt.NDArray[np.str_], shape: tuple[int, ...]) -> npt.NDArray[np.str_]:
    if values.dtype.kind != "U" or values.shape != shape:
        raise TypeError(f"an array is {values.dtype} {values.shape}, text {shape} was expected")
    return values
