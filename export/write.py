"""Makes a bundle: exports both graphs, proves them, and puts the folder in place whole."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import torch
from salgan_edge.export import parity
from salgan_edge.export.convert import convert
from salgan_edge.export.graphs import (
    GENERATOR_DIMENSIONS,
    TEXT_ENCODER_DIMENSIONS,
    TextEncoderGraph,
    generator_example,
    text_encoder_example,
)
from salgan_edge.export.text_encoders import load_text_encoder, write_tokenizer
from salgan_edge.train import released
from salgan_edge.train.checkpoint import load_generator

from salgan_edge import contract
from salgan_edge.bundle import BUNDLE_FILES, Bundle, FileRecord, Manifest
from salgan_edge.errors import OutputError
from salgan_edge.files import sha256
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["export_bundle"]

_TOOLS = ("salgan-edge", "torch", "transformers", "onnx", "onnxscript")


def export_bundle(
    output: Path,
    checkpoint: Path | None = None,
    text_encoder: str | None = None,
    *,
    size: int | None = None,
    name: str | None = None,
    report: Callable[[str], None] = lambda _line: None,
) -> Bundle:
    """Export a checkpoint and a text encoder as a bundle.

    Args:
        output: folder of the bundle; an older bundle there is replaced when the new one is proven.
        checkpoint: generator; the released default where None.
        text_encoder: hub id or local folder; the released compact one where None.
        size: side of the generator's input in pixels, traded against speed; the checkpoint's where None.
        name: of the bundle; made of the preset where None.
        report: called with a line for each step.

    Returns:
        The bundle, verified.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or does not fit its preset.
        ExportError: the text encoder cannot be used, or the exporter failed.
        ParityError: the graphs do not compute what PyTorch computes; nothing is left behind.
        OutputError: `output` cannot be written, or holds something that is no bundle.
    """
    _check_replaceable(output)
    checkpoint = checkpoint or released.GENERATOR
    source = text_encoder or str(released.TEXT_ENCODER)
    report(f"reading {checkpoint.name}")
    generator, description = load_generator(checkpoint, size)
    text_model = load_text_encoder(source, generator.dimension)
    staging = _staging(output)
    try:
        write_tokenizer(source, staging / contract.TOKENIZER_FILE, text_model)
        tokenizer = ClipTokenizer(staging / contract.TOKENIZER_FILE)
        encoder = TextEncoderGraph(text_model)
        report("exporting the text encoder")
        graphs = {
            contract.TEXT_ENCODER_FILE: convert(
                encoder, text_encoder_example(text_model.config.vocab_size), [contract.INPUT_IDS],
                contract.TEXT_EMBEDDING, TEXT_ENCODER_DIMENSIONS,
            )
        }  # fmt: skip
        report("exporting the generator")
        graphs[contract.GENERATOR_FILE] = convert(
            generator, generator_example(generator.dimension), [contract.IMAGE, contract.TEXT_EMBEDDING],
            contract.SALIENCY, GENERATOR_DIMENSIONS,
        )  # fmt: skip
        bundle_id = _sign(graphs, staging)
        report("comparing PyTorch and ONNX Runtime")
        cases = parity.check_text_encoder(encoder, staging / contract.TEXT_ENCODER_FILE, tokenizer)
        with torch.inference_mode():
            vectors = encoder(torch.from_numpy(tokenizer.batch(parity.PROMPTS))).numpy()
        cases += parity.check_generator(
            generator, staging / contract.GENERATOR_FILE, generator.dimension, vectors
        )
        manifest = Manifest(
            format_version=contract.FORMAT_VERSION,
            contract_version=contract.CONTRACT_VERSION,
            bundle_id=bundle_id,
            name=name or f"clip-salgan-{description.preset}",
            preset=description.preset,
            text_encoder="salgan-edge compact CLIP text encoder (distilled)"
            if text_encoder is None
            else Path(source).name
            if Path(source).exists()
            else source,
            text_space=description.text_space,
            embedding_dimension=generator.dimension,
            precision="fp32",
            input_size=(generator.size, generator.size),
            grid=(generator.grid, generator.grid),
            files={
                file: FileRecord(sha256(staging / file), (staging / file).stat().st_size)
                for file in BUNDLE_FILES
            },
            training=description.training,
            metrics=description.metrics,
            parity={
                case.name: {"difference": case.difference, "tolerance": case.tolerance} for case in cases
            },
            created_with={tool: metadata.version(tool) for tool in _TOOLS},
        )
        (staging / contract.MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
        Bundle.open(staging)
        _put_in_place(staging, output)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write {output}: {error.strerror or error}; nothing was left there"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    worst = max(cases, key=lambda case: case.difference / case.tolerance)
    report(
        f"{len(cases)} comparisons passed; closest to its limit: {worst.name}, {worst.difference:.1e} of {worst.tolerance:.0e}"
    )
    return Bundle.open(output)


def _check_replaceable(output: Path) -> None:
    """Only an empty place or an older bundle may be replaced."""
    if output.is_file():
        raise OutputError(f"{output} is a file: give a folder for the bundle")
    if output.is_dir() and any(output.iterdir()):
        foreign = {path.name for path in output.iterdir()} - {*BUNDLE_FILES, contract.MANIFEST_FILE}
        if foreign or not (output / contract.MANIFEST_FILE).is_file():
            raise OutputError(
                f"{output} holds other files ({', '.join(sorted(foreign)[:3]) or 'no manifest'}): give a new folder or an older bundle"
            )


def _staging(output: Path) -> Path:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise OutputError(
            f"cannot write {output}: {error.strerror or error}; choose another --output"
        ) from error


def _sign(graphs: dict[str, onnx.ModelProto], staging: Path) -> str:
    """Write the graphs with a common id, the digest of both and of the tokenizer."""
    digest = hashlib.sha256((staging / contract.TOKENIZER_FILE).read_bytes())
    for file in sorted(graphs):
        digest.update(graphs[file].SerializeToString(deterministic=True))
    bundle_id = digest.hexdigest()[:16]
    for file, model in graphs.items():
        onnx.helper.set_model_props(
            model,
            {contract.META_CONTRACT: str(contract.CONTRACT_VERSION), contract.META_BUNDLE_ID: bundle_id},
        )
        (staging / file).write_bytes(model.SerializeToString(deterministic=True))
    return bundle_id


def _put_in_place(staging: Path, output: Path) -> None:
    """Exchange `output` for `staging`; an older bundle is removed only after the new one is there."""
    staging.chmod(0o755)
    if not output.exists():
        staging.rename(output)
        return
    older = Path(tempfile.mkdtemp(prefix=f".{output.name}-old-", dir=output.parent))
    output.rename(older / "bundle")
    try:
        staging.rename(output)
    except OSError:
        (older / "bundle").rename(output)
        raise
    finally:
        shutil.rmtree(older, ignore_errors=True)
