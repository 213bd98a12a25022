"""Where a bundle's folder goes: made beside its place, and exchanged for an older one when it is whole."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from salgan_edge import contract
from salgan_edge.bundle import KNOWN_FILES
from salgan_edge.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_replaceable", "put_in_place", "replacing", "staging_folder"]


def check_replaceable(output: Path) -> None:
    """Only an empty place or an older bundle may be replaced.

    Raises:
        OutputError: `output` is a file, or a folder that holds something else.
    """
    if output.is_file():
        raise OutputError(f"{output} is a file: give a folder for the bundle")
    if output.is_dir() and any(output.iterdir()):
        foreign = {path.name for path in output.iterdir()} - {*KNOWN_FILES, contract.MANIFEST_FILE}
        if foreign or not (output / contract.MANIFEST_FILE).is_file():
            raise OutputError(
                f"{output} holds other files ({', '.join(sorted(foreign)[:3]) or 'no manifest'}): give a new folder or an older bundle"
            )


@contextlib.contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A temporary folder beside `output` that takes its place when the block ends without an error.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    staging = staging_folder(output)
    try:
        yield staging
        put_in_place(staging, output)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {output}: {error.strerror or error}; nothing was left there"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def staging_folder(output: Path) -> Path:
    """A temporary folder beside `output`.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise OutputError(
            f"cannot write {output}: {error.strerror or error}; choose another place"
        ) from error


def put_in_place(staging: Path, output: Path) -> None:
    """Exchange `output` for `staging`; an older bundle is removed only after the new one is there.

    Raises:
        OSError: `output` cannot be written; what was there is still there.
    """
    staging.chmod(0o755)
    if not output.exists():
        staging.rename(output)
        return
    older = Path(tempfile.mkdtemp(prefix=f".{output.name}-old-", dir=output.parent))
    try:
        output.rename(older / "bundle")
        staging.rename(output)
    finally:
        # An error or Ctrl-C between the two: the older bundle goes back.
        if not output.exists():
            (older / "bundle").rename(output)
        shutil.rmtree(older, ignore_errors=True)
