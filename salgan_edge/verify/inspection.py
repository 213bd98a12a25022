"""What a bundle is, told without running it; of a damaged one, as much as can be read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from salgan_edge import contract
from salgan_edge.bundle import Contents, bundle_place, read_contents
from salgan_edge.verify.checks import read_opset

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Inspection", "inspect_bundle"]

_GRAPHS = (contract.TEXT_ENCODER_FILE, contract.GENERATOR_FILE)


@dataclass(frozen=True)
class Inspection:
    """What `inspect_bundle` found."""

    bundle: str
    """Path of the bundle."""
    problems: tuple[str, ...]
    """What is wrong with its files; empty if they are what the manifest says."""
    manifest: dict[str, Any] | None
    """Content of ``bundle.json`` without its list of files; None where it cannot be read."""
    files: dict[str, dict[str, Any]]
    """Size, digest and state of each file; the state is ``ok`` or what is wrong."""
    graphs: dict[str, dict[str, Any]]
    """Of each graph its opset, and from the report inputs, outputs, operators, parameters and MACs."""
    report: dict[str, Any] | None
    """Content of ``report.json``; None where there is none, or it is not the one that was exported."""

    @property
    def bytes(self) -> int:
        """Size of all files but the manifest."""
        return sum(int(file["bytes"] or 0) for file in self.files.values())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"whole": not self.problems, "bytes": self.bytes, **asdict(self)}


def inspect_bundle(bundle: Path | None = None) -> Inspection:
    """Read what a bundle says of itself and compare its files with their digests. Loads no onnxruntime.

    Args:
        bundle: folder or ``.salgan`` file; the embedded bundle where None.

    Raises:
        BundleFormatError: there is nothing that could be a bundle.
        BundleIntegrityError: a ``.salgan`` file is damaged as a whole.
    """
    place = bundle_place(bundle)
    contents = read_contents(place)
    problems = [contents.problem] if contents.problem else []
    problems += [f"{file.name}: {file.problem}" for file in contents.files if file.problem]
    report = _report(contents)
    manifest = None
    if contents.manifest is not None:
        manifest = asdict(contents.manifest)
        del manifest["files"]
    graphs = {}
    for name in _GRAPHS:
        content = next((file.content for file in contents.files if file.name == name), None)
        if content is None:
            continue
        facts = dict(report["graphs"][name]) if report is not None and name in report["graphs"] else {}
        try:
            facts["opset"] = read_opset(content)
        except (ValueError, UnicodeDecodeError) as error:
            problems.append(f"{name}: {error}")
        graphs[name] = facts
    return Inspection(
        bundle=str(place),
        problems=tuple(problems),
        manifest=manifest,
        files={
            file.name: {
                "bytes": None if file.content is None else len(file.content),
                "sha256": file.sha256,
                "state": file.problem or ("ok" if file.record else "not verified"),
            }
            for file in contents.files
        },
        graphs=graphs,
        report=report,
    )


def _report(contents: Contents) -> dict[str, Any] | None:
    """The report, where it is the one that the manifest lists and has the parts that are shown."""
    state = next((file for file in contents.files if file.name == contract.REPORT_JSON_FILE), None)
    if state is None or state.content is None or state.record is None or state.problem:
        return None
    try:
        report = json.loads(state.content)
    except ValueError:
        return None
    if not isinstance(report, dict):
        return None
    graphs = report.get("graphs")
    if not isinstance(graphs, dict) or not all(isinstance(facts, dict) for facts in graphs.values()):
        return None
    return report
