"""Makes a bundle: exports both graphs, proves them, and puts the folder in place whole."""

from __future__ import annotations

import hashlib
import shutil
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import torch
from salgan_edge.export import parity
from salgan_edge.export.convert import (
    GENERATOR_DIMENSIONS,
    TEXT_ENCODER_DIMENSIONS,
    TextEncoderGraph,
    check_opset,
    check_size,
    convert,
    generator_example,
    text_encoder_example,
)
from salgan_edge.export.precision import apply_precision
from salgan_edge.export.report import write_receipt
from salgan_edge.train import released
from salgan_edge.train.checkpoint import load_generator
from salgan_edge.train.networks.text_encoder import load_text_encoder, write_tokenizer

from salgan_edge import contract
from salgan_edge.bundle import BUNDLE_FILES, Bundle, FileRecord, Manifest
from salgan_edge.errors import CheckpointError, OutputError
from salgan_edge.files import sha256
from salgan_edge.packing import (
    PACKED_SUFFIX,
    check_older,
    check_replaceable,
    pack,
    put_in_place,
    staging_folder,
)
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["export_bundle"]

_TOOLS = ("salgan-edge", "torch", "transformers", "onnx", "onnxscript")


def export_bundle(
    output: Path,
    checkpoint: Path | None = None,
    text_encoder: str | None = None,
    *,
    size: int | None = None,
    name: str | None = None,
    opset: int = contract.OPSET,
    precision: str = "fp32",
    data: Path | None = None,
    calibration: Path | None = None,
    command: Sequence[str] | None = None,
    prove: Callable[[Bundle], None] = lambda _bundle: None,
    report: Callable[[str], None] = lambda _line: None,
) -> Bundle:
    """Export a checkpoint and a text encoder as a bundle.

    Args:
        output: folder of the bundle, or one file where it ends in ``.salgan``; an older bundle there is
            replaced when the new one is proven.
        checkpoint: generator, or the name of a released one; the released default where None.
        text_encoder: hub id or local folder; the released compact one where None.
        size: side of the generator's input in pixels, traded against speed; the checkpoint's where None.
        name: of the bundle; made of the preset where None.
        opset: version of the graphs' operators, 18 to 21. Above 18 some operators leave the GPU.
        precision: ``fp32``, ``fp16``, ``int8``, ``mixed`` or ``auto``; see `salgan_edge.export.precision`.
        data: packed gaze folder whose validation photos judge a reduced precision; the fp32 graphs do
            where None.
        calibration: folder of photos for a reduced precision; the sample photos, or training photos of
            `data`, where None.
        command: arguments after ``salgan-edge``, for the report; None where Python code calls this.
        prove: called with the finished bundle before it is put in place; what it raises keeps it out.
        report: called with a line for each step.

    Returns:
        The bundle, verified.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or does not fit its preset.
        ExportError: the text encoder cannot be used, or the exporter failed.
        ParityError: the graphs do not compute what PyTorch computes; nothing is left behind.
        PrecisionError: the reduced precision loses too much; nothing is left behind.
        DataError: `data` or `calibration` cannot be used.
        OutputError: `output` cannot be written, or holds something that is no bundle.
    """
    packed = output.suffix == PACKED_SUFFIX
    (check_older if packed else check_replaceable)(output)
    check_opset(opset)
    checkpoint = released.checkpoint(checkpoint or Path("default"))
    if checkpoint.is_dir():
        raise CheckpointError(f"{checkpoint} is a folder: give the checkpoint in it (.safetensors)")
    source = text_encoder or str(released.TEXT_ENCODER)
    report(f"reading {checkpoint.name}")
    generator, description = load_generator(checkpoint, size)
    text_model = load_text_encoder(source, generator.dimension)
    check_size(text_model)
    staging = staging_folder(output)
    try:
        write_tokenizer(source, staging / contract.TOKENIZER_FILE, text_model)
        tokenizer = ClipTokenizer(staging / contract.TOKENIZER_FILE)
        encoder = TextEncoderGraph(text_model)
        report("exporting the text encoder")
        graphs = {
            contract.TEXT_ENCODER_FILE: convert(
                encoder, text_encoder_example(text_model.config.vocab_size), [contract.INPUT_IDS],
                contract.TEXT_EMBEDDING, TEXT_ENCODER_DIMENSIONS, opset,
            )
        }  # fmt: skip
        report("exporting the generator")
        graphs[contract.GENERATOR_FILE] = convert(
            generator.for_export(), generator_example(generator.dimension), [contract.IMAGE, contract.TEXT_EMBEDDING],
            contract.SALIENCY, GENERATOR_DIMENSIONS, opset,
        )  # fmt: skip
        for file, model in graphs.items():
            (staging / file).write_bytes(model.SerializeToString(deterministic=True))
        report("comparing PyTorch and ONNX Runtime")
        cases = parity.check_text_encoder(encoder, staging / contract.TEXT_ENCODER_FILE, tokenizer)
        with torch.inference_mode():
            vectors = encoder(torch.from_numpy(tokenizer.batch(parity.PROMPTS))).numpy()
        cases += parity.check_generator(
            generator,
            staging / contract.GENERATOR_FILE,
            generator.dimension,
            vectors,
            (generator.size, generator.size),
        )
        graphs, changed = apply_precision(
            graphs,
            precision,
            tokenizer,
            size=(generator.size, generator.size),
            data=data,
            calibration=calibration,
            report=report,
        )
        # The id of the text encoder first: it must not hang on the generator that it is signed with.
        text_id = _text_id(graphs[contract.TEXT_ENCODER_FILE], staging)
        bundle_id = _sign(graphs, staging)
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
            text_id=text_id,
            embedding_dimension=generator.dimension,
            precision="fp32" if changed is None else changed.precision,
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
        manifest = write_receipt(
            staging, manifest, cases, tokenizer, command=command,
            precision=None if changed is None else changed.to_dict(),
        )  # fmt: skip
        (staging / contract.MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
        bundle = Bundle.open(staging)
        prove(bundle)
        if packed:
            pack(bundle, output)
        else:
            put_in_place(staging, output)
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
        f"{len(cases)} comparisons of PyTorch and fp32 passed; closest to its limit: {worst.name}, {worst.difference:.1e} of {worst.tolerance:.0e}"
    )
    return Bundle.open(output)


def _text_id(text_encoder: onnx.ModelProto, staging: Path) -> str:
    """Digest of what makes text vectors: bundles that share it can share prompt packs."""
    digest = hashlib.sha256((staging / contract.TOKENIZER_FILE).read_bytes())
    digest.update(text_encoder.SerializeToString(deterministic=True))
    return digest.hexdigest()[:16]


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
