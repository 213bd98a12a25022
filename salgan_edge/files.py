"""Files that are whole or not there, written beside their place and renamed into it; and names for them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from salgan_edge.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["sha256", "slug", "writing"]


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends without an error.

    The temporary file keeps the suffix, by which writers choose a format.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; choose another --output"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only their owner reads; a result is an ordinary file.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; nothing was left there"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


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
