"""Bundles: a folder with two graphs, a tokenizer and a manifest that vouches for them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from salgan_edge import contract
from salgan_edge.errors import BundleFormatError, BundleIntegrityError
from salgan_edge.files import sha256

__all__ = ["BUNDLE_FILES", "Bundle", "FileRecord", "Manifest", "default_bundle"]

BUNDLE_FILES = (contract.TEXT_ENCODER_FILE, contract.GENERATOR_FILE, contract.TOKENIZER_FILE)


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

    def to_json(self) -> str:
        """The manifest as it is written."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Parse a manifest.

        Raises:
            BundleFormatError: no JSON object, another format version, or a field missing.
        """
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as error:
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
            return Manifest(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleFormatError(
                f"{contract.MANIFEST_FILE} is incomplete: {error}; export the bundle again"
            ) from error


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


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: its manifest, and files that are what the manifest says."""

    folder: Path
    manifest: Manifest

    @staticmethod
    def open(folder: Path) -> Bundle:
        """Read and verify a bundle.

        Raises:
            BundleFormatError: no bundle, or one of a newer format.
            BundleIntegrityError: a file is missing, truncated or changed.
        """
        manifest_file = folder / contract.MANIFEST_FILE
        if not folder.is_dir():
            raise BundleFormatError(
                f"{folder} is no folder: give a bundle folder, as written by salgan-edge export"
            )
        if not manifest_file.is_file():
            raise BundleFormatError(
                f"{folder} has no {contract.MANIFEST_FILE}: give a bundle folder, as written by salgan-edge export"
            )
        try:
            manifest = Manifest.from_json(manifest_file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise BundleFormatError(f"{manifest_file} cannot be read: {error}") from error
        bundle = Bundle(folder, manifest)
        bundle.verify()
        return bundle

    def verify(self) -> None:
        """Compare every file with the manifest.

        Raises:
            BundleIntegrityError: a file is missing, truncated or changed.
        """
        for name in BUNDLE_FILES:
            record = self.manifest.files.get(name)
            if record is None:
                raise BundleIntegrityError(
                    f"{contract.MANIFEST_FILE} of {self.folder} does not list {name}: export the bundle again"
                )
            path = self.folder / name
            if not path.is_file():
                raise BundleIntegrityError(f"{path} is missing: copy or export the bundle again")
            size = path.stat().st_size
            if size != record.bytes:
                raise BundleIntegrityError(
                    f"{path} has {size} bytes, the manifest says {record.bytes}: copy or export the bundle again"
                )
            if sha256(path) != record.sha256:
                raise BundleIntegrityError(
                    f"{path} was changed (SHA-256 differs from the manifest): copy or export the bundle again"
                )

    def path(self, name: str) -> Path:
        """Path of a file of the bundle."""
        return self.folder / name


def default_bundle() -> Path:
    """Folder of the bundle that is installed with the package."""
    return Path(__file__).parent / "bundles" / "default"
