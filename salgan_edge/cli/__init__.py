"""The command line. Each command has a file; nothing heavy is imported before it runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from salgan_edge._version import __version__
from salgan_edge.cli import bundle, data
from salgan_edge.cli.bake import bake
from salgan_edge.cli.benchmark import benchmark
from salgan_edge.cli.distill import distill
from salgan_edge.cli.doctor import doctor
from salgan_edge.cli.evaluate import evaluate
from salgan_edge.cli.export import export
from salgan_edge.cli.inspect import inspect
from salgan_edge.cli.predict import predict
from salgan_edge.cli.train import train
from salgan_edge.cli.verify import verify
from salgan_edge.cli.webcam import webcam
from salgan_edge.console import Stopped, show_log
from salgan_edge.errors import SalganEdgeError

__all__ = ["app", "main"]

app = typer.Typer(
    name="salgan-edge",
    help="Text-guided visual saliency: say what you look for, see where people would look.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"salgan-edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass


app.command()(predict)
app.command()(bake)
app.command()(evaluate)
app.command()(export)
app.command()(inspect)
app.command()(verify)
app.command()(webcam)
app.command()(doctor)
app.command()(benchmark)
app.command()(train)
app.command()(distill)
app.add_typer(bundle.app)
app.add_typer(data.app)


def main() -> None:
    """Run the command line: 0 for success, 1 for an error, 2 for wrong usage, 130 when interrupted, 143 when terminated."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    show_log(debug=debug)
    if not debug:
        # OpenCV's own lines about a damaged file would stand beside ours.
        os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    try:
        app(arguments, prog_name="salgan-edge")
    except SalganEdgeError as error:
        if debug:
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except Stopped as stop:
        typer.echo("stopped", err=True)
        sys.exit(128 + stop.number)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
