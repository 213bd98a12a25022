"""Writing bundles: a folder into a ``.salgan`` file, a file into a folder, and what may be replaced by either."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from salgan_edge import contract, stored_zip
from salgan_edge.bundle import KNOWN_FILES, TEXT_FILES, Bundle
from salgan_edge.errors import BundleError, BundleFormatError, OutputError
from salgan_edge.files import writing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "PACKED_SUFFIX",
    "check_older",
    "check_replaceable",
    "pack",
    "put_in_place",
    "replacing",
    "staging_folder",
    "unpack",
]

PACKED_SUFFIX = ".salgan"
"""By which an export knows that one file is wanted. A reader looks at the content."""


def pack(bundle: Bundle, output: Path, *, without_text_encoder: bool = False) -> Bundle:
    """Write a bundle as one file, from which it is loaded as it is.

    The file is an uncompressed zip, the manifest first and the other files by name; the same bundle
    gives the same bytes. Files that the manifest does not list are left out.

    Args:
        bundle: opened from a folder or a file.
        output: the file, such as ``x.salgan``; an older bundle there is replaced.
        without_text_encoder: leave out the text encoder and the tokenizer. Such a bundle keeps its id,
            and takes texts as a `PromptPack` only.

    Returns:
        The bundle in the file, verified.

    Raises:
        BundleIntegrityError: a file of the bundle was changed since it was opened.
        BundleFormatError: the bundle is larger than 4 GiB.
        OutputError: `output` cannot be written, or is something else than a bundle.
    """
    check_older(output)
    left_out = TEXT_FILES if without_text_encoder else ()
    with writing(output) as temporary:
        stored_zip.write(temporary, _content(bundle, left_out))
        Bundle.open(temporary)
    return Bundle.open(output)


def unpack(file: Path, output: Path) -> Bundle:
    """Write a one-file bundle as a folder.

    Args:
        file: the bundle, verified before anything is written.
        output: the folder; an older bundle there is replaced.

    Returns:
        The bundle in the folder, verified.

    Raises:
        BundleFormatError: `file` is no one-file bundle, or holds more than a bundle does.
        BundleIntegrityError: it is cut off or changed.
        OutputError: `output` cannot be written, or holds something that is no bundle.
    """
    if file.is_dir():
        raise BundleFormatError(f"{file} is a folder already: a .salgan file was expected")
    bundle = Bundle.open(file)
    check_replaceable(output)
    with replacing(output) as staging:
        for name, data in _content(bundle):
            (staging / name).write_bytes(data)
        Bundle.open(staging)
    return Bundle.open(output)


def _content(bundle: Bundle, left_out: tuple[str, ...] = ()) -> Iterator[tuple[str, bytes]]:
    """Names and content of a bundle's files, the manifest first. One file is in memory at a time."""
    manifest = bundle.read(contract.MANIFEST_FILE)
    if any(bundle.has(name) for name in left_out):
        # Fields that this version does not know are kept.
        raw = json.loads(manifest)
        raw["files"] = {name: record for name, record in raw["files"].items() if name not in left_out}
        raw["text_id"] = bundle.manifest.text_key
        manifest = (json.dumps(raw, indent=2, ensure_ascii=False) + "\n").encode()
    yield contract.MANIFEST_FILE, manifest
    for name in sorted(bundle.manifest.files):
        if name not in left_out:
            yield name, bundle.read(name)


def check_older(output: Path) -> None:
    """Only an empty place or an older one-file bundle may be replaced.

    Raises:
        OutputError: `output` is a folder, or a file that is something else.
    """
    if output.is_dir():
        raise OutputError(f"{output} is a folder: give a file, such as {output.name or 'bundle'}.salgan")
    if not output.exists():
        return
    try:
        Bundle.open(output)
    except BundleError as error:
        raise OutputError(
            f"{output} is no bundle that may be replaced: give a new file, or remove it first"
        ) from error


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
