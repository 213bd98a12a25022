"""`salgan-edge inspect`: what a bundle is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from salgan_edge import contract

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from salgan_edge.verify.inspection import Inspection

__all__ = ["inspect"]


def inspect(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="default, small, a bundle folder or a .salgan file; default if none."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a bundle is: contract, sizes, precision, training data, scores, licence.

    salgan-edge inspect my-bundle

    Nothing is run. Of a damaged bundle what can be read is shown, with what is wrong; the exit code
    is then 1.
    """
    from salgan_edge.verify.inspection import inspect_bundle  # noqa: PLC0415

    found = inspect_bundle(bundle)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False, indent=2))
    else:
        typer.echo("\n\n".join(filter(None, _sections(found))))
    if found.problems:
        raise typer.Exit(1)


def _sections(found: Inspection) -> Iterable[str]:
    yield _summary(found)
    if found.manifest is not None:
        yield _contract(found.manifest, found.files)
    yield _graphs(found)
    yield _files(found)
    if found.manifest is not None:
        yield _metrics(found.manifest["metrics"], found.manifest["precision"])
    yield "\n".join(f"wrong: {problem}" for problem in found.problems)


def _summary(found: Inspection) -> str:
    manifest, report = found.manifest, found.report or {}
    if manifest is None:
        return f"{found.bundle}: bundle whose manifest cannot be read"
    size, grid = ("x".join(map(str, reversed(manifest[key]))) for key in ("input_size", "grid"))
    training = manifest["training"]
    told = [f"{key} {_value(training[key])}" for key in ("data", "split", "epoch") if training.get(key)]
    parity = manifest["parity"]
    lines = [
        ("bundle", f"{manifest['bundle_id']} in {found.bundle}"),
        ("generator", f"{manifest['preset']}, photo to {size}, map of {grid}"),
        ("text encoder", f"{manifest['text_encoder']}, {manifest['embedding_dimension']} numbers a text"),
        ("text space", manifest["text_space"]),
        ("precision", manifest["precision"]),
        ("training", "; ".join(told)),
        ("parity", _parity(parity)),
        ("made with", ", ".join(f"{tool} {version}" for tool, version in manifest["created_with"].items())),
        ("made by", report.get("command")),
        ("licence", manifest["licence"]),
    ]
    body = "\n".join(f"  {name:<14}{value}" for name, value in lines if value)
    return f"{manifest['name']}\n{body}"


def _contract(manifest: dict[str, Any], files: Container[str]) -> str:
    """Inputs and outputs of the graphs: this version of the contract with the bundle's sizes."""
    vector, grid = manifest["embedding_dimension"], ", ".join(map(str, manifest["grid"]))
    graphs = {
        contract.TEXT_ENCODER_FILE: (
            f"{contract.INPUT_IDS} int64 (N, {contract.CONTEXT_LENGTH}) -> {contract.TEXT_EMBEDDING} float32 (N, {vector})"
        ),
        contract.GENERATOR_FILE: (
            f"{contract.IMAGE} uint8 (B, H, W, 3), {contract.TEXT_EMBEDDING} float32 (B, N, {vector}) -> "
            f"{contract.SALIENCY} float32 (B, N, {grid})"
        ),
    }
    title = f"contract {manifest['contract_version']} (format {manifest['format_version']})"
    lines = [f"  {name:<18}  {tensors}" for name, tensors in graphs.items() if name in files]
    return "\n".join([f"{title}, for B photos of any size and N texts", *lines])


def _parity(cases: dict[str, Any]) -> str:
    if not all(_is_case(case) for case in cases.values()) or not cases:
        return ""
    name, worst = max(cases.items(), key=lambda item: item[1]["difference"] / item[1]["tolerance"])
    return (
        f"{len(cases)} comparisons with PyTorch; closest to its limit: {name}, "
        f"{worst['difference']:.1e} of {worst['tolerance']:.0e}"
    )


def _is_case(case: object) -> bool:
    """Whether a manifest of another make holds the figures that are shown."""
    if not isinstance(case, dict):
        return False
    difference, tolerance = case.get("difference"), case.get("tolerance")
    return isinstance(difference, (int, float)) and isinstance(tolerance, (int, float)) and tolerance > 0


def _graphs(found: Inspection) -> str:
    rows = []
    for name, facts in found.graphs.items():
        opset = facts.get("opset") or {}
        known = all(isinstance(facts.get(key), int) for key in ("nodes", "parameters", "macs"))
        rows.append(
            [
                name,
                ", ".join(str(v) if d == "ai.onnx" else f"{d} {v}" for d, v in opset.items()) or "?",
                f"{facts['nodes']:,}" if known else "?",
                f"{facts['parameters'] / 1e6:.2f} M" if known else "?",
                f"{facts['macs'] / 1e9:.3f} G" if known else "?",
            ]
        )
    return _table(["graph", "opset", "operators", "parameters", "MACs"], rows) if rows else ""


def _files(found: Inspection) -> str:
    rows = [
        [
            name,
            "-" if file["bytes"] is None else f"{file['bytes']:,}",
            str(file["sha256"] or "-")[:16],
            str(file["state"]),
        ]
        for name, file in found.files.items()
    ]
    table = _table(["file", "bytes", "SHA-256", "state"], rows, left=(0, 2, 3))
    return f"{table}\n{found.bytes / 1e6:.1f} MB in all"


def _metrics(metrics: dict[str, Any], precision: str) -> str:
    """A row for each set of photos: its single figures, and those of all pairs.

    They are the checkpoint's, measured in fp32; the report says what a reduced precision changed.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, scores in metrics.items():
        if isinstance(scores, dict):
            overall = scores.get("all")
            found = {**scores, **(overall if isinstance(overall, dict) else {})}
            rows[name] = {key: value for key, value in found.items() if isinstance(value, (int, float))}
    if not rows:
        return ""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    return _table(
        ["scores" if precision == "fp32" else "scores in fp32", *columns],
        [[name, *(f"{row[c]:.4g}" if c in row else "-" for c in columns)] for name, row in rows.items()],
    )


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Columns aligned to the right, but those in `left`."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    lines = (
        "  ".join(
            f"{cell:<{width}}" if number in left else f"{cell:>{width}}"
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    )
    return "\n".join(lines)
