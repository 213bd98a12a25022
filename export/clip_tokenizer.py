"""Builds the shipped ``tokenizer.json`` from CLIP's byte-pair merges.

The merges are OpenAI's ``bpe_simple_vocab_16e6.txt.gz`` (MIT), as packed in the PyPI package
``open_clip_torch``::

    pip download --no-deps open_clip_torch
    python -m salgan_edge.export.clip_tokenizer open_clip_torch-*.whl tokenizer.json
"""

from __future__ import annotations

import gzip
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from salgan_edge import contract

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

__all__ = ["clip_tokenizer", "read_merges"]

VOCABULARY_SIZE = 49408
"""Bytes (256), bytes at a word's end (256), merges (48,894), start and end."""
_MERGES = VOCABULARY_SIZE - 2 * 256 - 2


def read_merges(path: Path) -> list[tuple[str, str]]:
    """The 48,894 merges of CLIP, best first, from a ``.txt.gz`` or a wheel that holds one."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith("bpe_simple_vocab_16e6.txt.gz"))
            packed = wheel.read(name)
    else:
        packed = path.read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : _MERGES + 1]
    pairs = [tuple(line.split()) for line in lines]
    return [(first, second) for first, second in pairs]


def _byte_alphabet() -> list[str]:
    """The 256 printable stand-ins of the bytes, in the order of CLIP's vocabulary.

    GPT-2's byte-level alphabet: printable Latin-1 characters stand for themselves, the others
    move past U+0100.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]


def clip_tokenizer(merges: list[tuple[str, str]]) -> CLIPTokenizer:
    """`transformers.CLIPTokenizer` with CLIP's own vocabulary built from its merges."""
    from transformers import CLIPTokenizer  # noqa: PLC0415 - slow to import

    alphabet = _byte_alphabet()
    tokens = alphabet + [letter + "</w>" for letter in alphabet]
    tokens += ["".join(pair) for pair in merges]
    tokens += [contract.BOS_TOKEN, contract.EOS_TOKEN]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    # Pairs are what its byte-pair model takes; its annotation says strings.
    return CLIPTokenizer(vocab=vocabulary, merges=merges)  # type: ignore[arg-type]


def main(source: str, output: str) -> None:
    """Write ``output`` from the merges in ``source``."""
    tokenizer = clip_tokenizer(read_merges(Path(source)))
    tokenizer.backend_tokenizer.save(output, pretty=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
