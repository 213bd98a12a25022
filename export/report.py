"""What lets others trust a bundle: golden outputs, ``report.json`` and, for people, ``report.md``, listed in the manifest."""

from __future__ import annotations

import json
import platform
import shlex
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salgan_edge.export.facts import read_facts
from salgan_edge.export.parity import make_golden

from salgan_edge import contract
from salgan_edge.bundle import FileRecord, Manifest
from salgan_edge.devices import installed_packages
from salgan_edge.files import sha256
from salgan_edge.resample import PREPARATION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from salgan_edge.export.facts import GraphFacts
    from salgan_edge.export.parity import Case

    from salgan_edge.tokenizer import ClipTokenizer
    from salgan_edge.verify.golden import GoldenData

__all__ = ["REPORT_VERSION", "make_report", "render_json", "render_markdown", "shell_line", "write_receipt"]


def write_receipt(
    folder: Path,
    manifest: Manifest,
    cases: Sequence[Case],
    tokenizer: ClipTokenizer,
    *,
    command: Sequence[str] | None = None,
    precision: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write ``golden.npz``, ``report.json`` and ``report.md`` beside the graphs.

    Args:
        folder: of the bundle, with both graphs.
        manifest: of the bundle, listing the graphs and the tokenizer.
        cases: comparisons of PyTorch and ONNX Runtime.
        tokenizer: of the bundle.
        command: arguments after ``salgan-edge``; None where Python code called the export.
        precision: what a reduced precision changes; None for fp32.

    Returns:
        The manifest, listing the three files too, and naming what photos went through for the golden outputs.
    """
    generator, text_encoder = folder / contract.GENERATOR_FILE, folder / contract.TEXT_ENCODER_FILE
    golden = make_golden(generator, text_encoder, tokenizer, manifest.input_size)
    (folder / contract.GOLDEN_FILE).write_bytes(golden.to_bytes())
    manifest = _listing(replace(manifest, preparation=PREPARATION), folder, contract.GOLDEN_FILE)
    graphs = {path.name: read_facts(path) for path in (text_encoder, generator)}
    report = make_report(manifest, graphs, cases, golden, command=command, precision=precision)
    (folder / contract.REPORT_JSON_FILE).write_text(render_json(report), encoding="utf-8", newline="\n")
    (folder / contract.REPORT_FILE).write_text(render_markdown(report), encoding="utf-8", newline="\n")
    return _listing(manifest, folder, contract.REPORT_JSON_FILE, contract.REPORT_FILE)


def _listing(manifest: Manifest, folder: Path, *names: str) -> Manifest:
    records = {name: FileRecord(sha256(folder / name), (folder / name).stat().st_size) for name in names}
    return replace(manifest, files={**manifest.files, **records})


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


_WIDEST = 7
"""Columns of a table that a page holds."""


def render_markdown(report: Mapping[str, Any]) -> str:
    """The content of ``report.json`` as a page of Markdown."""
    sections = [
        _introduction(report),
        _graphs(report),
        _parity(report),
        _precision(report),
        _golden(report),
        _metrics(report),
        _made(report),
        _files(report),
        _operators(report),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _introduction(report: Mapping[str, Any]) -> str:
    bundle, cases = report["bundle"], report["parity"]
    worst = max(cases, key=lambda case: case["difference"] / case["tolerance"])
    height, width = bundle["input_size"]
    rows, columns = bundle["grid"]
    size = sum(record["bytes"] for record in report["files"].values())
    missed = [case for case in cases if case["difference"] > case["tolerance"]]
    verdict = (
        f"All {len(cases)} comparisons of PyTorch and ONNX Runtime passed"
        if not missed
        else f"{len(missed)} of {len(cases)} comparisons of PyTorch and ONNX Runtime FAILED"
    )
    precision = report["precision"]
    if precision is not None and "passed" in precision:
        verdict += (
            f", and {bundle['precision']} keeps within its limits"
            if precision["passed"]
            else f", and {bundle['precision']} MISSES its limits"
        )
    return (
        f"# {bundle['name']}\n\n"
        f"Bundle `{bundle['bundle_id']}` of salgan-edge: the saliency generator `{bundle['preset']}`, which resizes a photo "
        f"to {width}x{height} pixels and gives a map of {columns}x{rows}, and the text encoder "
        f"“{bundle['text_encoder']}”. It computes in {bundle['precision']} and takes {size / 1e6:.1f} MB. "
        f"**{verdict}**; closest to its limit came “{worst['name']}” with {worst['difference']:.1e} of "
        f"{worst['tolerance']:.0e}.\n\n"
        "`salgan-edge verify` with the path of the bundle repeats the checks on another machine, without PyTorch."
    )


def _graphs(report: Mapping[str, Any]) -> str:
    rows = []
    for file, facts in report["graphs"].items():
        opset = ", ".join(
            str(version) if domain == "ai.onnx" else f"{domain} {version}"
            for domain, version in facts["opset"].items()
        )
        rows.append(
            [
                f"`{file}`",
                "<br>".join(map(_tensor, facts["inputs"])),
                "<br>".join(map(_tensor, facts["outputs"])),
                opset,
                f"{facts['nodes']:,}",
                f"{facts['parameters'] / 1e6:.2f} M",
                f"{facts['macs'] / 1e9:.3f} G",
                f"{report['files'][file]['bytes'] / 1e6:.2f} MB",
            ]
        )
    table = _table(["graph", "input", "output", "opset", "operators", "parameters", "MACs", "file"], rows)
    return (
        f"## Graphs\n\n{table}\n\n"
        "Axes with a name vary. MACs are multiplications for one photo and one prompt, without the resizing of the photo. "
        f"The contract has version {report['contract']['version']}."
    )


def _tensor(tensor: Mapping[str, Any]) -> str:
    return f"`{tensor['name']}` {tensor['dtype']} ({', '.join(map(str, tensor['shape']))})"


def _parity(report: Mapping[str, Any]) -> str:
    rows = [
        [case["name"], f"{case['difference']:.1e}", f"{case['tolerance']:.0e}"] for case in report["parity"]
    ]
    before = (
        ""
        if report["precision"] is None
        else " They are of the fp32 graphs that the bundle's were made from."
    )
    return (
        "## PyTorch against ONNX Runtime\n\n"
        f"Largest absolute differences on sample photos and prompts, on the CPU.{before}\n\n"
        + _table(["case", "difference", "limit"], rows)
    )


def _precision(report: Mapping[str, Any]) -> str:
    if report["precision"] is None:
        return ""
    used = report["bundle"]["precision"]
    title = "## Precisions that were tried" if used == "fp32" else f"## What {used} changes"
    return "\n\n".join([title, *_blocks(report["precision"], 3)])


def _blocks(values: Mapping[str, Any], level: int) -> list[str]:
    """Any nested figures: plain ones as one table, with limits beside them, and a section for each other."""
    given = values.get("limits")
    limits: dict[str, Any] = given if isinstance(given, dict) else {}
    plain = {key: value for key, value in values.items() if not _holds_more(value)}
    others = {
        key: value for key, value in values.items() if key not in plain and not (limits and key == "limits")
    }
    blocks = []
    if plain or limits:
        # A limit of another name than its figure gets a row of its own.
        rows = [
            [_words(key), _shown(plain.get(key)), *([_shown(limits.get(key, ""))] if limits else [])]
            for key in dict.fromkeys((*plain, *limits))
        ]
        blocks.append(_table(["figure", "value", *(["limit"] if limits else [])], rows))
    for key, value in others.items():
        blocks.append(f"{'#' * level} {_words(key)[:1].upper()}{_words(key)[1:]}")
        if isinstance(value, dict):
            blocks += _blocks(value, level + 1)
        elif all(isinstance(record, dict) for record in value):
            blocks.append(_records([_flat(record) for record in value]))
        else:
            blocks.append("\n".join(f"- {_shown(record)}" for record in value))
    return blocks


def _records(records: Sequence[Mapping[str, Any]]) -> str:
    """A row for each record; a column for each where a row would be too long."""
    found = list(dict.fromkeys(name for record in records for name in record))
    # What one record has as a table, and another not at all, is told by the table's entries.
    names = [name for name in found if not any(other.startswith(f"{name} ") for other in found)]
    cells = [[_shown(record.get(name, "")) for name in names] for record in records]
    if len(names) <= _WIDEST:
        return _table([_words(name) for name in names], cells)
    first, *rest = (
        [_words(name), *column] for name, column in zip(names, zip(*cells, strict=True), strict=True)
    )
    return _table(first, rest)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables brought to one level: ``gate cc`` for the entry cc of gate."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat.update({f"{key} {inner}": entry for inner, entry in _flat(value).items()})
        else:
            flat[key] = value
    return flat


def _holds_more(value: object) -> bool:
    if isinstance(value, dict):
        return bool(value)
    return isinstance(value, list) and any(isinstance(entry, (dict, list)) for entry in value)


def _words(key: object) -> str:
    """A key as words; the name of a file stays as it is."""
    text = str(key)
    return text if "." in text else text.replace("_", " ")


def _shown(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_shown(entry) for entry in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{_words(key)}: {_shown(entry)}" for key, entry in value.items()) or "-"
    return str(value)


def _golden(report: Mapping[str, Any]) -> str:
    photos = report["golden"]["photos"]
    sizes = ", ".join(
        f"{photo['width']}x{photo['height']} ({photo['maps']} {'map' if photo['maps'] == 1 else 'maps'})"
        for photo in photos
    )
    return (
        f"## Golden outputs\n\n`{contract.GOLDEN_FILE}` holds {len(report['golden']['texts'])} texts with their tokens and "
        f"vectors, and {len(photos)} photos with the saliency that the graphs gave on the exporting machine's CPU: {sizes}."
    )


def _metrics(report: Mapping[str, Any]) -> str:
    """Scores of the manifest: one row for each set of photos, its single figures and those of all pairs."""
    rows: dict[str, dict[str, Any]] = {}
    for name, scores in report["metrics"].items():
        if isinstance(scores, dict):
            single = {key: value for key, value in scores.items() if isinstance(value, (int, float))}
            overall = scores.get("all")
            rows[name] = {**single, **(overall if isinstance(overall, dict) else {})}
    if not rows:
        return ""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = _table(
        ["", *columns],
        [[name, *(_shown(row[c]) if c in row else "-" for c in columns)] for name, row in rows.items()],
    )
    return f"## Accuracy\n\nFrom the description of the checkpoint; `bundle.json` has more.\n\n{table}"


def _made(report: Mapping[str, Any]) -> str:
    command = report["command"]
    how = (
        f"```sh\n{command}\n```\n\nPaths outside the working folder are reduced to their last part."
        if command is not None
        else "Exported by Python code (`salgan_edge.export.write.export_bundle`)."
    )
    data = report["training_data"]
    trained = f"Trained on {_shown(data)}. " if data else ""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return f"## How it was made\n\n{how}\n\n{trained}Licence: {report['bundle']['licence']}.\n\nVersions: {versions}."


def _files(report: Mapping[str, Any]) -> str:
    rows = [
        [f"`{name}`", f"{record['bytes']:,}", f"`{record['sha256']}`"]
        for name, record in report["files"].items()
    ]
    return "## Files\n\n" + _table(["file", "bytes", "SHA-256"], rows)


def _operators(report: Mapping[str, Any]) -> str:
    graphs = report["graphs"]
    totals = {
        kind: sum(facts["operators"].get(kind, 0) for facts in graphs.values())
        for kind in dict.fromkeys(kind for facts in graphs.values() for kind in facts["operators"])
    }
    rows = [
        [kind, *(str(facts["operators"].get(kind, "-")) for facts in graphs.values())]
        for kind in sorted(totals, key=lambda kind: (-totals[kind], kind))
    ]
    return "## Operators\n\n" + _table(["operator", *(f"`{file}`" for file in graphs)], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
