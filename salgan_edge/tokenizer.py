"""Text to CLIP token ids, with the `tokenizers` package and a bundle's ``tokenizer.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from salgan_edge import contract
from salgan_edge.errors import BundleFormatError, PromptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

__all__ = ["ClipTokenizer", "EncodedText"]


@dataclass(frozen=True)
class EncodedText:
    """One prompt as the text encoder reads it."""

    ids: tuple[int, ...]
    """77 token ids: start, text, end, padding."""
    dropped: str
    """The end of the prompt that did not fit, as the user wrote it; empty when everything fits."""


class ClipTokenizer:
    """CLIP's byte-pair tokenizer, padded and cut to the contract's 77 tokens.

    Args:
        source: ``tokenizer.json``, or its content.

    Raises:
        BundleFormatError: the file is no tokenizer, or has no CLIP start and end tokens.
    """

    def __init__(self, source: Path | str | bytes) -> None:
        from tokenizers import Tokenizer  # noqa: PLC0415 - keeps `--help` light

        name = source.name if isinstance(source, Path) else contract.TOKENIZER_FILE
        try:
            if isinstance(source, Path):
                self._tokenizer = Tokenizer.from_file(str(source))
            else:
                content = source.encode() if isinstance(source, str) else source
                self._tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # the Rust side raises a bare Exception
            raise BundleFormatError(f"{name} is not a readable tokenizer.json: {error}") from error
        # Truncation is done here, because the user is told what was cut off.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        bos = self._tokenizer.token_to_id(contract.BOS_TOKEN)
        eos = self._tokenizer.token_to_id(contract.EOS_TOKEN)
        if bos is None or eos is None:
            raise BundleFormatError(
                f"{name} has no {contract.BOS_TOKEN} and {contract.EOS_TOKEN}: "
                "a CLIP tokenizer was expected, export the bundle again"
            )
        self._bos, self._eos = int(bos), int(eos)

    @property
    def end(self) -> int:
        """Id of the end token, where a CLIP text encoder reads its output."""
        return self._eos

    def encode(self, text: str) -> EncodedText:
        """Token ids of one prompt.

        Special tokens written into the text by a user are read as plain end and start markers by
        the vocabulary; they are refused, since they would end the prompt early.

        Raises:
            PromptError: the text is empty or holds a special token of the vocabulary.
        """
        if not text.strip():
            raise PromptError("the text is empty: give a description, or no text at all for free viewing")
        for token in (contract.BOS_TOKEN, contract.EOS_TOKEN):
            if token in text.lower():
                raise PromptError(f"the text contains {token}, which is reserved by CLIP: remove it")
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        room = contract.CONTEXT_LENGTH - 2
        ids = list(encoding.ids[:room])
        dropped = ""
        if len(encoding.ids) > room:
            dropped = text[encoding.offsets[room][0] :].strip()
        padding = [self._eos] * (room - len(ids))
        return EncodedText((self._bos, *ids, self._eos, *padding), dropped)

    def batch(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Token ids (N, 77) int64 of several prompts; what does not fit is cut off silently.

        Raises:
            PromptError: a text is empty or holds a special token of the vocabulary.
        """
        import numpy as np  # noqa: PLC0415

        ids = [self.encode(text).ids for text in texts]
        return np.asarray(ids, dtype=np.int64).reshape(len(ids), contract.CONTEXT_LENGTH)
