"""Is a bundle whole, does it keep the contract, and does this machine compute what the exporter's did?

Needs neither torch nor onnx. Nothing of a damaged bundle hides the rest: each check is made if it
can be, and says what it found.
"""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from salgan_edge import contract
from salgan_edge._version import __version__
from salgan_edge.bundle import TEXT_FILES, Contents, Manifest, bundle_place, read_contents
from salgan_edge.devices import DEVICES, Execution, installed_packages
from salgan_edge.errors import BundleError, BundleFormatError
from salgan_edge.session import GraphSession
from salgan_edge.tokenizer import ClipTokenizer
from salgan_edge.verify.checks import Check, check_end_token, check_graph, first_line
from salgan_edge.verify.golden import (
    MAPS,
    TOKENS,
    VECTORS,
    GoldenData,
    check_maps,
    check_tokens,
    check_vectors,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["VerifyReport", "verify_bundle"]

_NOT_HERE = "not in this bundle"
_DEFAULT = Execution()


@dataclass(frozen=True)
class VerifyReport:
    """What `verify_bundle` found."""

    bundle: str
    """Path of the bundle."""
    bundle_id: str | None
    """None where the manifest cannot be read, like the next two."""
    name: str | None
    precision: str | None
    device: str | None
    """Where the generator ran (``cpu``, ``cuda``, ...); None where it could not be loaded."""
    versions: dict[str, str]
    """Of this package, onnxruntime and Python, and the machine's kind."""
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed and none had to be skipped; what is not in the bundle does not count."""
        return all(check.status in ("ok", "absent") for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"passed": self.passed, **asdict(self)}


def verify_bundle(bundle: Path | None = None, execution: Execution = _DEFAULT) -> VerifyReport:
    """Check a bundle's files, contract and golden outputs on this machine.

    Args:
        bundle: folder or ``.salgan`` file; the embedded bundle where None.
        execution: device, threads and all else that says how to run.

    Returns:
        A report, also where checks failed.

    Raises:
        BundleFormatError: there is nothing that could be a bundle.
        BundleIntegrityError: a ``.salgan`` file is damaged as a whole.
        DeviceError: a device asked for by name is not usable.
        MissingDependencyError: neither onnxruntime package is installed.
    """
    place = bundle_place(bundle)
    contents = read_contents(place)
    checks = [_manifest(contents), *_files(contents)]
    generator: GraphSession | None = None
    if contents.manifest is not None:
        run = _Run(contents, contents.manifest, execution)
        checks += run.checks()
        generator = run.sessions.get(contract.GENERATOR_FILE)
    manifest = contents.manifest
    return VerifyReport(
        bundle=str(place),
        bundle_id=None if manifest is None else manifest.bundle_id,
        name=None if manifest is None else manifest.name,
        precision=None if manifest is None else manifest.precision,
        device=None if generator is None else generator.device,
        versions={
            "salgan-edge": __version__,
            **installed_packages(),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
        },
        checks=tuple(checks),
    )


def _manifest(contents: Contents) -> Check:
    manifest = contents.manifest
    if manifest is None:
        return Check("manifest", "fail", contents.problem)
    versions = {"format_version": manifest.format_version, "contract_version": manifest.contract_version}
    if manifest.contract_version != contract.CONTRACT_VERSION:
        detail = (
            f"contract version {manifest.contract_version}, this salgan-edge runs {contract.CONTRACT_VERSION}"
        )
        return Check("manifest", "fail", detail, versions)
    detail = f"format {manifest.format_version}, contract {manifest.contract_version}"
    return Check("manifest", "ok", detail, versions)


def _files(contents: Contents) -> Iterable[Check]:
    for file in contents.files:
        size = None if file.content is None else len(file.content)
        figures = {"bytes": size, "sha256": file.sha256}
        if file.problem:
            yield Check(f"file {file.name}", "fail", file.problem, figures)
        elif contents.manifest is not None:
            detail = f"{size:,} bytes, SHA-256 {str(file.sha256)[:16]}... as listed"
            yield Check(f"file {file.name}", "ok", detail, figures)


class _Run:
    """The checks that load and run the graphs."""

    def __init__(self, contents: Contents, manifest: Manifest, execution: Execution) -> None:
        self._contents, self._manifest, self._execution = contents, manifest, execution
        self._tokenizer: ClipTokenizer | None = None
        self.sessions: dict[str, GraphSession] = {}

    def checks(self) -> Iterable[Check]:
        text = all(self._contents.lists(name) for name in TEXT_FILES)
        if text:
            yield self._contract(contract.TEXT_ENCODER_FILE)
            yield self._end_token()
        else:
            yield Check(f"contract of {contract.TEXT_ENCODER_FILE}", "absent", _NOT_HERE)
            yield Check("tokenizer", "absent", _NOT_HERE)
        yield self._contract(contract.GENERATOR_FILE)
        yield from self._golden(text)
        for name in (contract.TEXT_ENCODER_FILE, contract.GENERATOR_FILE):
            yield self._providers(name)

    def _contract(self, name: str) -> Check:
        """Load a graph, and look at it."""
        content = self._contents.read(name)
        if content is None:
            return Check(f"contract of {name}", "skipped", "the file cannot be read")
        try:
            session = GraphSession(content, self._execution, traced=True, name=name)
        except BundleError as error:
            return Check(f"contract of {name}", "fail", str(error))
        self.sessions[name] = session
        return check_graph(name, content, session, self._manifest)

    def _end_token(self) -> Check:
        """Load the tokenizer, and try it with the text encoder."""
        content = self._contents.read(contract.TOKENIZER_FILE)
        if content is None:
            return Check("tokenizer", "skipped", "the file cannot be read")
        try:
            self._tokenizer = ClipTokenizer(content)
        except BundleError as error:
            return Check("tokenizer", "fail", str(error))
        session = self.sessions.get(contract.TEXT_ENCODER_FILE)
        if session is None:
            return Check("tokenizer", "skipped", "loads; there is no text encoder to try it with")
        return check_end_token(self._tokenizer, session)

    def _golden(self, text: bool) -> Iterable[Check]:
        names = (TOKENS, VECTORS, MAPS)
        if not self._contents.lists(contract.GOLDEN_FILE):
            yield from (Check(name, "absent", _NOT_HERE) for name in names)
            return
        content = self._contents.read(contract.GOLDEN_FILE)
        if content is None:
            yield from (Check(name, "skipped", "the file cannot be read") for name in names)
            return
        try:
            golden = GoldenData.from_bytes(content)
        except BundleFormatError as error:
            yield from (Check(name, "fail", str(error)) for name in names)
            return
        if text:
            yield check_tokens(self._tokenizer, golden)
            encoder = self.sessions.get(contract.TEXT_ENCODER_FILE)
            yield check_vectors(encoder, golden, self._manifest.precision)
        else:
            yield from (Check(name, "absent", _NOT_HERE) for name in names[:2])
        generator = self.sessions.get(contract.GENERATOR_FILE)
        yield check_maps(generator, golden, self._manifest)

    def _providers(self, name: str) -> Check:
        title = f"providers of {name}"
        if not self._contents.lists(name):
            return Check(title, "absent", _NOT_HERE)
        session = self.sessions.get(name)
        if session is None:
            return Check(title, "skipped", "the graph could not be loaded")
        example: dict[str, npt.NDArray[Any]] = {
            contract.IMAGE: np.zeros((1, 64, 64, 3), np.uint8),
            contract.TEXT_EMBEDDING: np.zeros((1, 1, self._manifest.embedding_dimension), np.float32),
            contract.INPUT_IDS: np.zeros((1, contract.CONTEXT_LENGTH), np.int64),
        }
        try:
            found = session.node_providers({key: example[key] for key in session.inputs})
        except Exception as error:  # noqa: BLE001 - a graph that is not what it should be; that is told above
            return Check(title, "skipped", f"cannot be told: {first_line(error)}")
        source = (
            "onnxruntime's record"
            if found.source == "assignment"
            else "a profile, this onnxruntime keeps no record"
        )
        total = sum(found.nodes.values())
        shown = ", ".join(f"{provider} {nodes}" for provider, nodes in found.nodes.items())
        figures = asdict(found)
        kind = DEVICES[session.device]
        if not any(found.nodes.get(provider) for provider in (kind.provider, *kind.beside)):
            return Check(title, "fail", f"{session.device} runs none of {total} operators", figures)
        return Check(title, "ok", f"{total} operators: {shown} (by {source})", figures)
