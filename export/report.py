"""The receipt of an export: what ``report.json`` holds. `report_page` makes ``report.md`` of it."""

from __future__ import annotations

import json
import platform
import shlex
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salgan_edge import contract
from salgan_edge.devices import installed_packages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from salgan_edge.export.graph_facts import GraphFacts
    from salgan_edge.export.parity import Case

    from salgan_edge.bundle import Manifest
    from salgan_edge.verify.golden import GoldenData

__all__ = ["REPORT_VERSION", "make_report", "render_json", "shell_line"]

REPORT_VERSION = 1
"""Of the layout of ``report.json``."""

_PACKAGES = ("numpy", "opencv-python", "tokenizers")


def make_report(
    manifest: Manifest,
    graphs: Mapping[str, GraphFacts],
    cases: Sequence[Case],
    golden: GoldenData,
    *,
    command: Sequence[str] | None = None,
    precision: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What ``report.json`` holds.

    Args:
        manifest: of the bundle; its `files` are those that the report vouches for, so neither the
            report nor the manifest.
        graphs: facts of each graph by its file.
        cases: comparisons of PyTorch and ONNX Runtime.
        golden: the golden pairs.
        command: arguments after ``salgan-edge``; None where Python code called the export.
        precision: what a reduced precision changes; None for fp32.
    """
    return {
        "report_version": REPORT_VERSION,
        "passed": all(case.difference <= case.tolerance for case in cases)
        and (precision is None or bool(precision.get("passed", True))),
        "bundle": {
            "name": manifest.name,
            "bundle_id": manifest.bundle_id,
            "preset": manifest.preset,
            "precision": manifest.precision,
            "text_encoder": manifest.text_encoder,
            "text_space": manifest.text_space,
            "input_size": list(manifest.input_size),
            "grid": list(manifest.grid),
            "embedding_dimension": manifest.embedding_dimension,
            "licence": manifest.licence,
        },
        "contract": {"version": contract.CONTRACT_VERSION, "opset": contract.OPSET},
        "graphs": {
            file: {
                "inputs": [asdict(tensor) for tensor in facts.inputs],
                "outputs": [asdict(tensor) for tensor in facts.outputs],
                "opset": facts.opset,
                "nodes": facts.nodes,
                "operators": facts.operators,
                "parameters": facts.parameters,
                "macs": facts.macs,
            }
            for file, facts in graphs.items()
        },
        "parity": [asdict(case) for case in cases],
        "precision": None if precision is None else dict(precision),
        "golden": {
            "texts": list(golden.texts),
            "step": golden.step,
            "photos": [
                {"height": pair.image.shape[0], "width": pair.image.shape[1], "maps": len(pair.prompts)}
                for pair in golden.pairs
            ],
        },
        "metrics": manifest.metrics,
        "training_data": manifest.training.get("data"),
        "files": {name: asdict(record) for name, record in manifest.files.items()},
        "versions": {
            **manifest.created_with,
            **installed_packages(),
            **_versions(),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
        },
        "command": None if command is None else shell_line(command),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except (
            metadata.PackageNotFoundError
        ):  # such as opencv-python, where the headless build took its place
            continue
    return found


def shell_line(arguments: Sequence[str]) -> str:
    """A command line to paste into a shell, without folders of this machine.

    A path that is absolute or leads out of the working folder is reduced to its last part, also
    after the = of ``--option=value`` or behind a short option.
    """
    return shlex.join(["salgan-edge", *(_without_folders(argument) for argument in arguments)])


def _without_folders(argument: str) -> str:
    if argument.startswith("-"):
        option, equals, value = argument.partition("=")
        if equals:
            return f"{option}={_without_folders(value)}"
        if not argument.startswith("--") and len(argument) > 2:
            return argument[:2] + _without_folders(argument[2:])
        return argument
    path = Path(argument)
    depth = 0
    for part in path.parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return path.name if path.name != ".." else "."
    return path.name if path.is_absolute() else argument


def render_json(report: Mapping[str, Any]) -> str:
    """The report as it is written."""
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
