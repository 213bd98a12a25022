"""Time and memory that an export takes.

The export runs in a process of its own, so that its peak is its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from salgan_edge.benchmarks.record import machine

from salgan_edge.errors import ExportError
from salgan_edge.files import writing

__all__ = ["main", "measure"]


def measure(arguments: list[str]) -> dict[str, float]:
    """Seconds, CPU seconds and the largest memory in bytes of ``salgan-edge export`` with `arguments`.

    Raises:
        ExportError: the export failed; its own message is on standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "salgan_edge", "export", "--output", str(Path(folder) / "bundle")]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run([*command, *arguments], check=False)  # noqa: S603 - this package's own command
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise ExportError(f"the export ended with exit code {done.returncode}: nothing was measured")
    # The largest child so far; kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_bytes": after.ru_maxrss * unit,
    }


def main(
    checkpoint: Annotated[Path | None, typer.Option(help="Default: the released generator.")] = None,
    text_encoder: Annotated[str | None, typer.Option(help="Default: the released text encoder.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write JSON here.")] = None,
) -> None:
    """Measure one export."""
    arguments = ["--checkpoint", str(checkpoint)] if checkpoint else []
    arguments += ["--text-encoder", text_encoder] if text_encoder else []
    cost = measure(arguments)
    typer.echo(
        f"{cost['seconds']} s, {cost['cpu_seconds']} CPU seconds, peak {cost['peak_bytes'] / 1e9:.2f} GB"
    )
    if output is not None:
        with writing(output) as temporary:
            temporary.write_text(
                json.dumps({"machine": machine(), **cost}, indent=2) + "\n", encoding="utf-8"
            )
