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
from salgan_edge.benchmarks.latency import machine, time_generators

from salgan_edge import contract
from salgan_edge.bundle import Bundle, default_bundle
from salgan_edge.files import writing
from salgan_edge.session import allowed_cpus


def main(
    bundle: Annotated[Path | None, typer.Option("--bundle", "-b", help="Default: the embedded one.")] = None,
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
        graphs = {
            "generator": (opened.path(contract.GENERATOR_FILE), opened.manifest.input_size[0]),
            "paper": (peer, 256),
        }
        timings = [
            timing
            for threads in sorted({1, allowed_cpus()})
            for timing in time_generators(graphs, threads, blocks)
        ]
    typer.echo(
        f"{'graph':<12}{'size':>6}{'threads':>9}{'median ms':>12}{'p90 ms':>10}{'first ms':>10}{'paper / this':>14}"
    )
    for timing in timings:
        paper = next(t for t in timings if t.name == "paper" and t.threads == timing.threads)
        typer.echo(
            f"{timing.name:<12}{timing.size:>6}{timing.threads:>9}{timing.median_ms:>12.2f}{timing.p90_ms:>10.2f}"
            f"{timing.first_ms:>10.2f}{paper.median_ms / timing.median_ms:>14.1f}"
        )
    if output is not None:
        record = {
            "bundle": opened.manifest.bundle_id,
            "machine": machine(),
            "timings": [dataclasses.asdict(timing) for timing in timings],
        }
        with writing(output) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
