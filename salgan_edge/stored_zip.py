"""Zip files that hold a few known files as they are: written the same every time, read with distrust.

Nothing of such an archive can decide where a file goes or how much memory it takes: names must be of
a given list, entries must be plain uncompressed files, and sizes must fit into the archive itself.
"""

from __future__ import annotations

import contextlib
import stat
import struct
import zipfile
from typing import IO, TYPE_CHECKING

from salgan_edge.errors import BundleError, BundleFormatError, BundleIntegrityError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

__all__ = ["entries", "entry", "write"]

_END = b"PK\x05\x06"
_ZIP64_LOCATOR = b"PK\x06\x07"
_LOCAL_HEADER = b"PK\x03\x04"
_END_BYTES = 22
_LOCATOR_BYTES = 20
_HEADER_BYTES = 30
_MOST_DIRECTORY_BYTES = 65536
_PACK = "pack the bundle with salgan-edge bundle pack"
_FIRST_TIME = (1980, 1, 1, 0, 0, 0)
# Bits of the general purpose flag: encrypted, compressed patched data, strong encryption, masked headers.
_REFUSED_FLAGS = 0x1 | 0x20 | 0x40 | 0x2000


def write(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write files uncompressed, in the given order, with fixed times and permissions.

    The same files give the same bytes. The whole may have up to 4 GiB.

    Raises:
        OSError: the archive cannot be written.
        BundleFormatError: the files are too large.
    """
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
            for name, data in files:
                info = zipfile.ZipInfo(name, _FIRST_TIME)
                info.create_system = 3  # Unix, on whichever system it is packed
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(info, data)
    except zipfile.LargeZipFile as error:
        raise BundleFormatError(
            "the bundle has more than 4 GiB, which one file cannot hold: leave it a folder"
        ) from error


def entries(path: Path, known: Collection[str]) -> dict[str, int]:
    """Names and sizes in bytes of an archive's files.

    Args:
        path: the archive.
        known: names that it may hold.

    Raises:
        BundleFormatError: it is no zip, or holds what `write` would never write.
        BundleIntegrityError: it is cut off, or its directory does not fit its content.
    """
    with _opened(path, known) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


@contextlib.contextmanager
def entry(path: Path, name: str, known: Collection[str]) -> Iterator[IO[bytes]]:
    """One file of an archive, open for reading. The archive is checked as by `entries`.

    Raises:
        BundleFormatError, BundleIntegrityError: as `entries`; also when what is read is damaged.
    """
    with _opened(path, known) as archive, archive.open(name) as file:
        yield file


@contextlib.contextmanager
def _opened(path: Path, known: Collection[str]) -> Iterator[zipfile.ZipFile]:
    try:
        with path.open("rb") as file:
            _check_end(path, file)
            with zipfile.ZipFile(file) as archive:
                _check_entries(path, archive, known)
                yield archive
    except BundleError:
        raise
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, struct.error) as error:
        raise BundleIntegrityError(f"{path} is damaged ({error}): copy it again") from error
    except OSError as error:
        raise BundleFormatError(f"{path} cannot be read: {error.strerror or error}") from error


def _check_end(path: Path, file: IO[bytes]) -> None:
    """The end record is the last thing in the file, and the directory that it announces is small.

    Python's reader would also find an end record before a comment, and would read a directory of
    any length into memory.
    """
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(4)
    file.seek(max(0, size - _END_BYTES - _LOCATOR_BYTES))
    tail = file.read()
    file.seek(0)
    if start not in (_LOCAL_HEADER, _END):
        raise BundleFormatError(
            f"{path} is no bundle: a bundle folder, or a .salgan file of salgan-edge bundle pack, was expected"
        )
    end = tail[-_END_BYTES:]
    if not end.startswith(_END) or len(end) < _END_BYTES:
        raise BundleIntegrityError(f"{path} is cut off or has something appended: copy it again")
    if tail.startswith(_ZIP64_LOCATOR) and len(tail) == _END_BYTES + _LOCATOR_BYTES:
        raise BundleFormatError(f"{path} is a zip of the 64-bit kind: {_PACK}")
    directory = int.from_bytes(end[12:16], "little")
    if directory > _MOST_DIRECTORY_BYTES:
        raise BundleFormatError(
            f"{path} has a directory of {directory} bytes, at most {_MOST_DIRECTORY_BYTES} were expected: {_PACK}"
        )


def _check_entries(path: Path, archive: zipfile.ZipFile, known: Collection[str]) -> None:
    seen: set[str] = set()
    end = archive.start_dir
    for info in archive.infolist():
        name = info.orig_filename
        shown = ascii(name)[1:-1][:60]
        if name not in known:
            raise BundleFormatError(f"{path} holds {shown}, which is no file of a bundle: {_PACK}")
        if wrong := _wrong_kind(info):
            raise BundleFormatError(f"{path} holds {shown}, which {wrong}: {_PACK}")
        if info.filename != name:
            raise BundleFormatError(f"{path} gives {shown} another name beside its own: {_PACK}")
        if name in seen:
            raise BundleFormatError(f"{path} holds {shown} twice: {_PACK}")
        seen.add(name)
        if info.compress_size != info.file_size:
            raise BundleIntegrityError(f"{path} gives two sizes for {shown}: copy it again")
        if info.header_offset + _HEADER_BYTES + len(name) + info.file_size > end:
            raise BundleIntegrityError(
                f"{path} says that {shown} has {info.file_size} bytes, more than it can hold: copy it again"
            )


def _wrong_kind(info: zipfile.ZipInfo) -> str:
    """What an entry is other than a plain file; empty if nothing."""
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        return "is no ordinary file"
    if info.flag_bits & _REFUSED_FLAGS:
        return "is encrypted"
    if info.compress_type != zipfile.ZIP_STORED:
        return "is compressed"
    return ""
