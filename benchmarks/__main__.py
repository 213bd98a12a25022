"""``python -m salgan_edge.benchmarks``: the default generator against the paper's, in one run.

The paper's generator is exported with random weights (speed does not depend on them), which needs
the export extra.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from salgan_edge.benchmarks.latency import generator_subject, machine, neck_subject, text_subject, time_graphs
from salgan_edge.export.graph_facts import count_macs, count_parameters

from salgan_edge import contract
from salgan_edge.bundle import Bundle, default_bundle
from salgan_edge.cpus import allowed_cpus
from salgan_edge.files import writing


def main(
    bundle: Annotated[Path | None, typer.Option("--bundle", "-b", help="Default: the embedded one.")] = None,
    neck: Annotated[
        Path | None, typer.Option(help="yolox_nano_coco.onnx: also time its neck, as a unit of cost.")
    ] = None,
    blocks: Annotated[int, typer.Option(min=1, help="Blocks of five measured runs of each graph.")] = 6,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write JSON here.")] = None,
) -> None:
    """Time a bundle's generator against the paper's, with one thread and with all."""
    from salgan_edge.export.convert import convert  # noqa: PLC0415
    from salgan_edge.export.graphs import GENERATOR_DIMENSIONS, generator_example  # noqa: PLC0415
    from salgan_edge.train.networks.paper import PaperGenerator  # noqa: PLC0415

    opened = Bundle.open(bundle or default_bundle())
    with tempfile.TemporaryDirectory() as folder:
        peer = Path(folder) / "paper.onnx"
        model = convert(
            PaperGenerator(), generator_example(512), [contract.IMAGE, contract.TEXT_EMBEDDING],
            contract.SALIENCY, GENERATOR_DIMENSIONS,
        )  # fmt: skip
        peer.write_bytes(model.SerializeToString())
        generator = opened.path(contract.GENERATOR_FILE)
        size, dimension = opened.manifest.input_size[0], opened.manifest.embedding_dimension
        subjects = {
            "generator": generator_subject(generator, size, dimension),
            "paper": generator_subject(peer, 256, 512),
        }
        subjects["text encoder"] = text_subject(opened.path(contract.TEXT_ENCODER_FILE))
        if neck is not None:
            subjects["neck"] = neck_subject(neck, Path(folder))
        timings = [
            timing
            for threads in sorted({1, allowed_cpus()})
            for timing in time_graphs(subjects, threads, blocks)
        ]
    macs, parameters = count_macs(generator), count_parameters(generator)
    typer.echo(
        f"generator: {macs / 1e9:.3f} G MACs, {parameters / 1e6:.2f} M parameters, "
        f"{generator.stat().st_size / 1e6:.2f} MB"
    )
    typer.echo(
        f"{'graph':<14}{'size':>6}{'threads':>9}{'median ms':>12}{'p90 ms':>10}{'first ms':>10}{'paper / this':>14}"
        + (f"{'this / neck':>13}" if neck is not None else "")
    )
    for timing in timings:
        paper = next(t for t in timings if t.name == "paper" and t.threads == timing.threads)
        unit = next((t.median_ms for t in timings if t.name == "neck" and t.threads == timing.threads), None)
        typer.echo(
            f"{timing.name:<14}{timing.size:>6}{timing.threads:>9}{timing.median_ms:>12.2f}{timing.p90_ms:>10.2f}"
            f"{timing.first_ms:>10.2f}{paper.median_ms / timing.median_ms:>14.1f}"
            + (f"{timing.median_ms / unit:>13.2f}" if unit is not None else "")
        )
    if output is not None:
        record = {
            "bundle": opened.manifest.bundle_id,
            "macs": macs,
            "parameters": parameters,
            "machine": machine(),
            "timings": [dataclasses.asdict(timing) for timing in timings],
        }
        with writing(output) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
