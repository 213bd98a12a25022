"""What lies in a bundle, verified file by file: the rest is told even where a part is damaged."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from salgan_edge import contract
from salgan_edge.bundle import KNOWN_FILES, FileRecord, Manifest, store_of
from salgan_edge.errors import BundleError, BundleFormatError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Contents", "FileState", "read_contents"]


@dataclass(frozen=True)
class FileState:
    """One file, as it is and as the manifest says it is."""

    name: str
    content: bytes | None
    """None where it is missing or unreadable."""
    sha256: str | None
    """Of the content."""
    record: FileRecord | None
    """What the manifest says; None where it does not list the file or cannot be read."""
    problem: str
    """What is wrong; empty if nothing."""


@dataclass(frozen=True)
class Contents:
    """A bundle that may be damaged."""

    place: Path
    """Folder, or ``.salgan`` file."""
    manifest: Manifest | None
    """None where it cannot be read."""
    problem: str
    """What is wrong with the manifest; empty if nothing."""
    files: tuple[FileState, ...]
    """Every file that the manifest lists or that lies there and may belong to a bundle."""

    def read(self, name: str) -> bytes | None:
        """Content of a file that the manifest lists, whether it is what the manifest says or not."""
        return next((file.content for file in self.files if file.name == name and file.record), None)

    def lists(self, name: str) -> bool:
        """Whether the manifest lists a file."""
        return self.manifest is not None and name in self.manifest.files


def read_contents(place: Path) -> Contents:
    """Read a bundle's files, and note what is wrong with them.

    Raises:
        BundleFormatError: there is nothing that could be a bundle.
        BundleIntegrityError: a ``.salgan`` file is damaged as a whole.
    """
    store = store_of(place)
    size = store.size(contract.MANIFEST_FILE)
    if size is None:
        raise BundleFormatError(
            f"{place} has no {contract.MANIFEST_FILE}: give a bundle, as written by salgan-edge export"
        )
    manifest, problem = None, ""
    try:
        with store.open(contract.MANIFEST_FILE) as file:
            manifest = Manifest.from_json(file.read(size).decode())
    except (BundleError, OSError, UnicodeDecodeError) as error:
        problem = str(error)
    listed = {} if manifest is None else manifest.files
    states = []
    for name in KNOWN_FILES:
        record, size = listed.get(name), store.size(name)
        if record is None and size is None:
            continue
        content, trouble = None, ""
        if size is None:
            trouble = "missing"
        else:
            try:
                with store.open(name) as file:
                    content = file.read(size)
            except (BundleError, OSError) as error:
                trouble = f"cannot be read: {error}"
        digest = None if content is None else hashlib.sha256(content).hexdigest()
        if content is not None and manifest is not None:
            trouble = _difference(len(content), digest, record)
        states.append(FileState(name, content, digest, record, trouble))
    return Contents(place, manifest, problem, tuple(states))


def _difference(size: int, digest: str | None, record: FileRecord | None) -> str:
    if record is None:
        return f"{contract.MANIFEST_FILE} does not list it"
    if size != record.bytes:
        return f"{size} bytes, the manifest says {record.bytes}"
    if digest != record.sha256:
        return f"SHA-256 {str(digest)[:16]}..., the manifest says {record.sha256[:16]}..."
    return ""
