"""A CLIP text model as teacher: its vectors of any text, computed in batches and kept in a file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import torch
from salgan_edge.train.networks.text_encoder import embed
from salgan_edge.train.networks.text_encoders import load_text_encoder, write_tokenizer
from tokenizers import Tokenizer

from salgan_edge.errors import DataError
from salgan_edge.files import writing
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["ClipTeacher"]

_PART = 2048
"""Texts between two savings of the file."""
_BATCH = 64


class ClipTeacher:
    """Vectors of texts by a CLIP text model.

    Args:
        source: hub id or folder of the model.
        folder: where its tokenizer and the vectors are kept; vectors that are there from an
            interrupted computation are not computed again.
        report: told how many of how many texts are done.

    Raises:
        ExportError: no such model, or none of CLIP's class.
        DataError: the folder has vectors of another teacher.
    """

    def __init__(self, source: str, folder: Path, report: Callable[[int, int], None]) -> None:
        self.tokenizer_file = folder / "teacher_tokenizer.json"
        self._model = load_text_encoder(source, None, option="--teacher")
        with writing(self.tokenizer_file) as temporary:
            write_tokenizer(source, temporary, self._model, option="--teacher")
        self._tokenizer = ClipTokenizer(self.tokenizer_file)
        self._file = folder / "teacher.npz"
        self._source = source
        self._report = report
        self._known: dict[str, npt.NDArray[np.float16]] = {}
        if self._file.exists():
            with np.load(self._file) as file:
                if str(file["source"]) != source:
                    raise DataError(
                        f"{self._file} has the vectors of {file['source']}, not of {source}: choose another --output"
                    )
                self._known = dict(zip(file["texts"].tolist(), file["vectors"], strict=True))

    def vocabulary(self) -> list[str]:
        """The whole words of the tokenizer: entries of two or more letters that end a word."""
        entries = Tokenizer.from_file(str(self.tokenizer_file)).get_vocab()
        words = (entry.removesuffix("</w>") for entry in entries if entry.endswith("</w>"))
        return sorted(word for word in words if re.fullmatch(r"[a-z]{2,}", word))

    def encode(self, texts: Sequence[str]) -> Floats:
        """Vectors (n, d) of texts, L2-normalised; rounded to float16, as they are kept."""
        missing = sorted({text for text in texts if text not in self._known}, key=len)
        for start in range(0, len(missing), _PART):
            self._report(start, len(missing))
            part = missing[start : start + _PART]
            self._known.update(zip(part, self._compute(part), strict=True))
            self._save()
        table = np.stack([self._known[text] for text in texts]).astype(np.float32)
        table /= np.linalg.norm(table, axis=1, keepdims=True)
        return table

    @torch.inference_mode()
    def _compute(self, texts: Sequence[str]) -> npt.NDArray[np.float16]:
        rows = []
        for start in range(0, len(texts), _BATCH):
            ids = torch.from_numpy(self._tokenizer.batch(texts[start : start + _BATCH]))
            # The padding repeats the end token; nothing after the first one reaches the output.
            length = int((ids != self._tokenizer.end).sum(1).max()) + 1
            rows.append(embed(self._model, ids[:, :length]).numpy().astype(np.float16))
        return np.concatenate(rows)

    def _save(self) -> None:
        with writing(self._file) as temporary:
            np.savez(
                temporary, source=np.array(self._source), texts=np.array(list(self._known), np.str_),
                vectors=np.stack(list(self._known.values())),
            )  # fmt: skip
