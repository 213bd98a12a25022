"""Writes what lets others trust a bundle: golden outputs and the report, listed in the manifest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from salgan_edge.export.golden import make_golden
from salgan_edge.export.graph_facts import read_facts
from salgan_edge.export.report import make_report, render_json
from salgan_edge.export.report_page import render_markdown

from salgan_edge import contract
from salgan_edge.bundle import FileRecord, Manifest
from salgan_edge.files import sha256

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from salgan_edge.export.parity import Case

    from salgan_edge.tokenizer import ClipTokenizer

__all__ = ["write_receipt"]


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
        The manifest, listing the three files too.
    """
    generator, text_encoder = folder / contract.GENERATOR_FILE, folder / contract.TEXT_ENCODER_FILE
    golden = make_golden(generator, text_encoder, tokenizer)
    (folder / contract.GOLDEN_FILE).write_bytes(golden.to_bytes())
    manifest = _listing(manifest, folder, contract.GOLDEN_FILE)
    graphs = {path.name: read_facts(path) for path in (text_encoder, generator)}
    report = make_report(manifest, graphs, cases, golden, command=command, precision=precision)
    (folder / contract.REPORT_JSON_FILE).write_text(render_json(report), encoding="utf-8", newline="\n")
    (folder / contract.REPORT_FILE).write_text(render_markdown(report), encoding="utf-8", newline="\n")
    return _listing(manifest, folder, contract.REPORT_JSON_FILE, contract.REPORT_FILE)


def _listing(manifest: Manifest, folder: Path, *names: str) -> Manifest:
    records = {name: FileRecord(sha256(folder / name), (folder / name).stat().st_size) for name in names}
    return replace(manifest, files={**manifest.files, **records})
