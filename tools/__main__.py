"""``python -m tools NAME``: one command for each module that steers this repository."""

from __future__ import annotations

import importlib
import sys

import typer

from salgan_edge.console import show_log
from salgan_edge.errors import SalganEdgeError

__all__ = ["main"]

_TOOLS = {
    "record": "Measure all that is committed to benchmarks/results.",
    "gate": "Compare ratios of times with the committed ones; --figures: the figures to reach.",
    "table": "Write the tables of the newest committed results into README.md and the documentation.",
    "peers": "Time a bundle and its peers in turn.",
    "parts": "What each part of the generator takes.",
    "trade": "What accuracy costs: checkpoints scored and timed in turn.",
    "export-cost": "Time and memory that an export takes.",
    "ablation": "What each part of the system buys: trainings with one part changed.",
    "annotate": "Write measured scores into a checkpoint.",
    "fit-targets": "Fit the shape of box targets to people who were told what to look for.",
}
"""Commands, each a module of this folder: only the one that is asked for is imported, since some need PyTorch."""


def _help() -> str:
    lines = [f"  {name:<13}{what}" for name, what in _TOOLS.items()]
    golden = "Values that tests compare with are written by tools/golden.py, in environments of their own."
    return "\n".join(
        [
            "Usage: python -m tools COMMAND [OPTIONS] ...",
            "",
            "Commands (each has --help):",
            *lines,
            "",
            golden,
        ]
    )


def main() -> None:
    """Run a tool: 0 for success, 1 for an error or a gate that is shut, 2 for wrong usage."""
    name, *arguments = [*sys.argv[1:], "--help"] if len(sys.argv) < 2 else sys.argv[1:]
    if name == "--help":
        typer.echo(_help())
        sys.exit(0)
    if name not in _TOOLS:
        typer.echo(f"error: {name!r} is unknown: {', '.join(_TOOLS)} were expected", err=True)
        sys.exit(2)
    show_log(debug=False)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(importlib.import_module(f"tools.{name.replace('-', '_')}").main)
    try:
        app(arguments, prog_name=f"python -m tools {name}")
    except SalganEdgeError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
