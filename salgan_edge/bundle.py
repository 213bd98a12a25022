"""Bundles: two graphs, a tokenizer and a manifest that vouches for them, in a folder or one file.

One reader looks at every file and notes what is wrong with it (`read_contents`): `Bundle.open` raises the first error
that it finds, `salgan_edge.verify` lists all of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from salgan_edge import contract, stored_zip
from salgan_edge.errors import BundleError, BundleFormatError, BundleIntegrityError

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterator

__all__ = [
    "BUNDLE_FILES",
    "EMBEDDED",
    "EXTRA_FILES",
    "KNOWN_FILES",
    "TEXT_FILES",
    "Bundle",
    "Contents",
    "FileRecord",
    "FileState",
    "Manifest",
    "bundle_place",
    "default_bundle",
    "read_contents",
]

BUNDLE_FILES = (contract.TEXT_ENCODER_FILE, contract.GENERATOR_FILE, contract.TOKENIZER_FILE)
"""What an export makes. A bundle may lack the text files, but has both of them or none."""

TEXT_FILES = (contract.TEXT_ENCODER_FILE, contract.TOKENIZER_FILE)
"""What turns texts into vectors."""

EXTRA_FILES = (contract.GOLDEN_FILE, contract.REPORT_JSON_FILE, contract.REPORT_FILE)
"""What a bundle may have beside them."""

KNOWN_FILES = (*BUNDLE_FILES, *EXTRA_FILES)
"""Every file that a manifest may list."""

EMBEDDED = ("default", "small")
"""Names of the bundles that are installed with the package: the most accurate one, and one at two fifths of its cost."""

_EMBEDDED = Path(__file__).parent / "bundles"
_CHUNK = 1 << 20

_ARCHIVED = (contract.MANIFEST_FILE, *KNOWN_FILES)
"""Every file that a bundle in one file may hold."""
_PACK = "pack the bundle with salgan-edge bundle pack"


@dataclass(frozen=True)
class FileRecord:
    """One file of a bundle as it was when exported."""

    sha256: str
    """Hexadecimal digest."""
    bytes: int
    """Size."""


@dataclass(frozen=True)
class Manifest:
    """Content of ``bundle.json``."""

    format_version: int
    """Version of this layout; a reader refuses a newer one."""
    contract_version: int
    """Version of the graphs' inputs and outputs."""
    bundle_id: str
    """Digest of the graphs and the tokenizer; both graphs carry it."""
    name: str
    preset: str
    """Architecture of the generator: ``edge`` or ``paper``."""
    text_encoder: str
    """Which text encoder was exported: hub id, folder name, or the compact one."""
    text_space: str
    """Whose text vectors the generator was trained on."""
    embedding_dimension: int
    """Length of a text vector."""
    precision: str
    """``fp32``: how the graphs compute."""
    input_size: tuple[int, int]
    """Height and width in pixels that the generator resizes every image to."""
    grid: tuple[int, int]
    """Height and width of the saliency that the generator gives."""
    files: dict[str, FileRecord] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    """Data, split and settings of the generator's training."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Scores, and the split they were measured on."""
    parity: dict[str, Any] = field(default_factory=dict)
    """Largest differences between PyTorch and ONNX Runtime at export."""
    licence: str = "Apache-2.0"
    created_with: dict[str, str] = field(default_factory=dict)
    """Versions of the tools that made the bundle."""
    text_id: str = ""
    """Digest of the text encoder and the tokenizer before the graph is given the bundle's id, so that
    it is the same in every bundle with this text encoder; empty in bundles that older versions made."""
    preparation: str = ""
    """What is done to a photo before the graph, `salgan_edge.resample.PREPARATION`; empty in bundles that older
    versions made, whose golden outputs were made without."""

    @property
    def text_key(self) -> str:
        """What prompt vectors are known by: bundles of one key encode a text alike. May be empty.

        It is `text_id`, or a digest of the two files, which no other bundle shares.
        """
        if self.text_id or not all(name in self.files for name in TEXT_FILES):
            return self.text_id
        digests = "".join(self.files[name].sha256 for name in TEXT_FILES)
        return hashlib.sha256(digests.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The manifest as it is written."""
        values = asdict(self)
        for name in ("text_id", "preparation"):
            if not values[name]:
                del values[name]
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Parse a manifest.

        Raises:
            BundleFormatError: no JSON object, another format version, or a field missing.
        """
        try:
            raw = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise BundleFormatError(
                f"{contract.MANIFEST_FILE} is no JSON: {error}; export the bundle again"
            ) from error
        if not isinstance(raw, dict):
            raise BundleFormatError(f"{contract.MANIFEST_FILE} holds no object; export the bundle again")
        _check_version(raw.get("format_version"), contract.FORMAT_VERSION, "format")
        _check_version(raw.get("contract_version"), contract.CONTRACT_VERSION, "contract")
        known = {f.name for f in fields(Manifest)}
        try:
            values = {key: value for key, value in raw.items() if key in known}
            values["files"] = {name: FileRecord(**record) for name, record in raw["files"].items()}
            for key in ("input_size", "grid"):
                values[key] = tuple(int(side) for side in raw[key])
            manifest = Manifest(**values)
            _check_types(manifest)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleFormatError(
                f"{contract.MANIFEST_FILE} is incomplete: {error}; export the bundle again"
            ) from error
        _check_files(manifest.files)
        return manifest


def _check_version(found: object, known: int, what: str) -> None:
    if not isinstance(found, int):
        raise BundleFormatError(
            f"{contract.MANIFEST_FILE} has no {what}_version: this is no bundle of salgan-edge"
        )
    if found > known:
        raise BundleFormatError(
            f"the bundle has {what} version {found}, this salgan-edge reads up to {known}: pip install -U salgan-edge"
        )
    if found < 1:
        raise BundleFormatError(f"the bundle has {what} version {found}: 1 to {known} was expected")


def _check_types(manifest: Manifest) -> None:
    """A manifest of another make may hold anything.

    Raises:
        TypeError: a text, number or table is something else.
    """
    kinds = {"str": str, "int": int, "dict": dict}
    for known in fields(manifest):
        kind = kinds.get(str(known.type).partition("[")[0])
        if kind is not None and not isinstance(getattr(manifest, known.name), kind):
            raise TypeError(f"{known.name} is no {kind.__name__}")
    for name, record in manifest.files.items():
        if not isinstance(record.sha256, str) or not isinstance(record.bytes, int):
            raise TypeError(f"the record of {name} has no sha256 and bytes")


def _check_files(files: Collection[str]) -> None:
    unknown = sorted(set(files) - {*KNOWN_FILES})
    if unknown:
        raise BundleFormatError(
            f"{contract.MANIFEST_FILE} lists {unknown[0]!a}, which this salgan-edge does not know: "
            "pip install -U salgan-edge, or export the bundle again"
        )
    text_files = [name for name in TEXT_FILES if name in files]
    missing = [name for name in TEXT_FILES if name not in files] if text_files else []
    if contract.GENERATOR_FILE not in files:
        missing = [contract.GENERATOR_FILE]
    if missing:
        raise BundleIntegrityError(
            f"{contract.MANIFEST_FILE} does not list {missing[0]}: export the bundle again"
        )


class _Store(Protocol):
    """Where the files of a bundle lie."""

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none."""

    def open(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """A file, open for reading; while it is open, whatever fails is a `BundleError`."""

    def label(self, name: str) -> str:
        """What messages call a file."""


@dataclass(frozen=True)
class _Folder:
    path: Path

    def size(self, name: str) -> int | None:
        file = self.path / name
        return file.stat().st_size if file.is_file() else None

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        try:
            with (self.path / name).open("rb") as file:
                yield file
        except OSError as error:
            raise BundleIntegrityError(
                f"{self.label(name)} cannot be read: {error.strerror or error}"
            ) from error

    def label(self, name: str) -> str:
        return str(self.path / name)


@dataclass(frozen=True)
class _Archive:
    path: Path
    sizes: dict[str, int]

    @staticmethod
    def of(path: Path) -> _Archive:
        return _Archive(path, stored_zip.entries(path, _ARCHIVED))

    def size(self, name: str) -> int | None:
        return self.sizes.get(name)

    def open(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        return stored_zip.entry(self.path, name, _ARCHIVED)

    def label(self, name: str) -> str:
        return f"{name} in {self.path}"


def _store_of(place: Path) -> _Store:
    """The files of a bundle as they lie there; nothing is checked but an archive's directory.

    Raises:
        BundleFormatError: there is nothing, or a file that is no bundle.
        BundleIntegrityError: an archive is damaged.
    """
    try:
        if place.is_dir():
            return _Folder(place)
        if place.is_file():
            return _Archive.of(place)
    except OSError as error:
        raise BundleFormatError(f"{place} cannot be read: {error.strerror or error}") from error
    raise BundleFormatError(
        f"{place} does not exist: give a bundle folder, as written by salgan-edge export, a .salgan file, or {' or '.join(EMBEDDED)}"
    )


@dataclass(frozen=True)
class FileState:
    """One file, as it is and as the manifest says it is."""

    name: str
    content: bytes | None = field(default=None, repr=False)
    """None where it was not to be kept, is missing or cannot be read."""
    sha256: str | None = None
    """Of the content; None where it was not read."""
    record: FileRecord | None = None
    """What the manifest says; None where it does not list the file or cannot be read."""
    problem: str = ""
    """What is wrong, in a few words; empty if nothing."""
    error: BundleError | None = None
    """What `Bundle.open` raises for it; None where the file does no harm."""


@dataclass(frozen=True)
class Contents:
    """Everything about a bundle that may be damaged."""

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
    """Read a bundle's files, damaged ones too, and note what is wrong with each.

    Raises:
        BundleFormatError: there is nothing that could be a bundle.
        BundleIntegrityError: a ``.salgan`` file is damaged as a whole.
    """
    store = _store_of(place)
    if store.size(contract.MANIFEST_FILE) is None:
        raise _no_manifest(place)
    manifest, problem = None, ""
    try:
        manifest = Manifest.from_json(_manifest_text(place, store))
    except BundleError as error:
        problem = str(error)
    return Contents(place, manifest, problem, tuple(_states(store, manifest, KNOWN_FILES, damaged=True)))


def _states(
    store: _Store, manifest: Manifest | None, keep: Collection[str], *, damaged: bool = False
) -> Iterator[FileState]:
    """Every file that the manifest lists or that lies there and may belong to a bundle, one after the other."""
    for name in KNOWN_FILES:
        listed = manifest is not None and name in manifest.files
        if listed or store.size(name) is not None:
            yield _state(store, name, manifest, keep=name in keep, damaged=damaged)


def _state(
    store: _Store, name: str, manifest: Manifest | None, *, keep: bool, damaged: bool = False
) -> FileState:
    """Read a file and compare it with the manifest.

    Args:
        store: where it lies.
        name: of the file.
        manifest: None where it cannot be read, so that nothing is known to be wrong with a file.
        keep: hold the content.
        damaged: read the file even where its size is wrong or the manifest does not list it.
    """
    record = None if manifest is None else manifest.files.get(name)
    label, size = store.label(name), store.size(name)
    problem, error, advice = "", "", "copy or export the bundle again"
    kind: type[BundleError] = BundleIntegrityError
    if size is None:
        problem, error = "missing", f"{label} is missing"
    elif record is None and manifest is not None:
        problem = f"{contract.MANIFEST_FILE} does not list it"
        if isinstance(store, _Archive):
            # A folder may hold more; a file that was packed by this package does not.
            error = f"{store.path} holds {name}, which its {contract.MANIFEST_FILE} does not list"
            kind, advice = BundleFormatError, _PACK
    elif record is not None and size != record.bytes:
        problem = f"{size} bytes, the manifest says {record.bytes}"
        error = f"{label} has {problem}"
    content = digest = None
    if size is not None and (damaged or not problem):
        try:
            content, digest = _content(store, name, size, keep=keep)
        except BundleError as failure:
            return FileState(name, None, None, record, str(failure), failure)
    if record is not None and digest is not None and not problem and digest != record.sha256:
        problem = f"SHA-256 {digest[:16]}..., the manifest says {record.sha256[:16]}..."
        error = f"{label} was changed (SHA-256 differs from the manifest)"
    return FileState(name, content, digest, record, problem, kind(f"{error}: {advice}") if error else None)


def _content(store: _Store, name: str, size: int, *, keep: bool) -> tuple[bytes | None, str]:
    """A file's content, if that is kept, and its digest."""
    with store.open(name) as file:
        if keep:
            content = file.read(size)
            return content, hashlib.sha256(content).hexdigest()
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        return None, digest.hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: its manifest, and files that are what the manifest says."""

    place: Path
    """Folder, or ``.salgan`` file."""
    manifest: Manifest
    manifest_json: str = field(repr=False)
    """``bundle.json`` as it lies there, with fields that this version does not know."""
    _store: _Store = field(repr=False, compare=False)
    _kept: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def open(place: str | os.PathLike[str], keep: Collection[str] = ()) -> Bundle:
        """Read and verify a bundle. Nothing of a file is extracted to disk.

        Args:
            place: folder, ``.salgan`` file, or the name of an embedded bundle, see `bundle_place`.
            keep: files that will be read next: their content is held until then, not read again.

        Raises:
            BundleFormatError: no bundle, or one of a newer format.
            BundleIntegrityError: a file is missing, truncated or changed.
        """
        place = bundle_place(place)
        store = _store_of(place)
        text = _manifest_text(place, store)
        bundle = Bundle(place, Manifest.from_json(text), text, store)
        for state in _states(store, bundle.manifest, keep):
            if state.error is not None:
                raise state.error
            if state.content is not None:
                bundle._kept[state.name] = state.content
        return bundle

    def has(self, name: str) -> bool:
        """Whether the bundle has a file: a constant of `contract`, such as `TEXT_ENCODER_FILE`."""
        return name in self.manifest.files

    def read(self, name: str) -> bytes:
        """Content of a file that the bundle has, verified.

        Content that `open` kept is given out once; after that it is read and verified again, so
        that a bundle does not hold in memory what its graphs hold too.

        Raises:
            BundleFormatError: the bundle has no such file.
            BundleIntegrityError: the file was changed since the bundle was opened.
        """
        if name == contract.MANIFEST_FILE:
            return self.manifest_json.encode()
        if not self.has(name):
            raise BundleFormatError(f"{self.place} has no {name}: export the bundle again")
        content = self._kept.pop(name, None)
        if content is None:
            state = _state(self._store, name, self.manifest, keep=True)
            if state.error is not None:
                raise state.error
            content = state.content
            assert content is not None
        return content

    def path(self, name: str) -> Path:
        """Path of a file of a bundle that is a folder, for tools that take nothing but a path.

        Raises:
            BundleFormatError: the bundle is one file, or has no such file.
        """
        if not isinstance(self._store, _Folder):
            raise BundleFormatError(
                f"{self.place} is one file, a folder was expected: unpack it with salgan-edge bundle unpack"
            )
        if not self.has(name):
            raise BundleFormatError(f"{self.place} has no {name}: export the bundle again")
        return self._store.path / name


def _manifest_text(place: Path, store: _Store) -> str:
    size = store.size(contract.MANIFEST_FILE)
    if size is None:
        raise _no_manifest(place)
    with store.open(contract.MANIFEST_FILE) as file:
        content = file.read(size)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BundleFormatError(f"{store.label(contract.MANIFEST_FILE)} cannot be read: {error}") from error


def _no_manifest(place: Path) -> BundleFormatError:
    return BundleFormatError(
        f"{place} has no {contract.MANIFEST_FILE}: give a bundle, as written by salgan-edge export or bundle pack"
    )


def default_bundle() -> Path:
    """Folder of the default bundle, which is installed with the package."""
    return _EMBEDDED / "default"


def bundle_place(bundle: str | os.PathLike[str] | None) -> Path:
    """Where a bundle lies that is given by its path, or by the name of one that is installed with the package.

    A bundle in the working folder wins over an installed one of the same name.

    Args:
        bundle: folder, ``.salgan`` file or one of `EMBEDDED`; None is the default bundle.
    """
    if bundle is None:
        return default_bundle()
    place = Path(bundle)
    if str(place) in EMBEDDED and not place.is_file() and not (place / contract.MANIFEST_FILE).is_file():
        return _EMBEDDED / place
    return place
