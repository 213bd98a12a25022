"""`salgan-edge doctor`: can this machine run the product, on which devices, and what fixes what is wrong?"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from salgan_edge.cli.options import BundleOption
from salgan_edge.devices import DEVICES

__all__ = ["doctor"]

_Device = StrEnum("_Device", [(name, name) for name in DEVICES])  # type: ignore[misc]


def doctor(
    bundle: BundleOption = None,
    device: Annotated[
        _Device | None, typer.Option(help="Try only this one; default: all, and the bundle on auto.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, for bug reports: no names are in it.")
    ] = False,
    no_cameras: Annotated[bool, typer.Option("--no-cameras", help="Open no camera.")] = False,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1, max=3600, metavar="SECONDS", help="For each trial; four times that for the bundle."
        ),
    ] = 30.0,
) -> None:
    """Find out whether this machine can run salgan-edge, on which devices, and what fixes what is wrong.

    salgan-edge doctor

    Everything is tried in processes of its own, so that a crash is found and not suffered. The exit code
    is 1 if images cannot be predicted (on --device, where that is given), and 0 otherwise.
    """
    from salgan_edge.doctor.examine import examine  # noqa: PLC0415
    from salgan_edge.doctor.problems import make_plan  # noqa: PLC0415
    from salgan_edge.doctor.report import to_dict, to_text  # noqa: PLC0415

    watched = sys.stderr.isatty()

    def progress(part: str) -> None:
        # One line that the next overwrites; the report on standard output begins on a clean one.
        typer.echo(f"\r\033[Klooking at: {part}", err=True, nl=False)

    facts = examine(
        bundle,
        None if device is None else device.value,
        cameras=not no_cameras,
        timeout=timeout,
        progress=progress if watched else lambda _: None,
    )
    if watched:
        typer.echo("\r\033[K", err=True, nl=False)
    plan = make_plan(facts)
    if as_json:
        typer.echo(json.dumps(to_dict(facts, plan), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        typer.echo(to_text(facts, plan))
    if not plan.ready:
        raise typer.Exit(1)
