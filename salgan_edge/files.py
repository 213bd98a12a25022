"""Files that are whole or not there, written beside their place and renamed into it; and names for them."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
from typing import TYPE_CHECKING

from salgan_edge.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["natural_order", "sha256", "slug", "writing"]

_STEM = 50
"""Characters of a name that its temporary file keeps: file systems take 255 bytes in all."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends without an error.

    The temporary file keeps the suffix, by which writers choose a format.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by tempfile: its files are readable to their owner alone, a result is an ordinary file.
        temporary = path.parent / f".{path.stem[:_STEM]}-{secrets.token_hex(6)}{path.suffix}"
        temporary.open("xb").close()
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another place") from error
    try:
        yield temporary
        temporary.replace(path)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; nothing was left there"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def natural_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts files by name, ``frame2`` before ``frame10``: the one order of files in a folder.

    >>> from pathlib import Path
    >>> [path.name for path in sorted(map(Path, ["b10", "B2", "a"]), key=natural_order)]
    ['a', 'B2', 'b10']
    """
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], str(path)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def slug(text: str | None, length: int = 40) -> str:
    """A prompt as a part of a file name: letters and digits of any script, joined by dashes."""
    if text is None:
        return "free-viewing"
    words = re.findall(r"\w+", text.lower())
    joined = "-".join(words)[:length].strip("-")
    return joined or "prompt"
