"""`salgan-edge verify`: is a bundle whole, and does this machine compute what the exporter's did?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from salgan_edge.cli.execution import (
    DeviceName,
    DeviceOption,
    ProviderOptions,
    StrictOption,
    ThreadsOption,
    execution_of,
)
from salgan_edge.console import one_line_warnings

if TYPE_CHECKING:
    from salgan_edge.verify.verify import VerifyReport

__all__ = ["verify"]

_MARKS = {"ok": "ok", "fail": "FAIL", "absent": "--", "skipped": "skip"}


def verify(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="default, small, a bundle folder or a .salgan file; default if none."),
    ] = None,
    device: DeviceOption = DeviceName.auto,
    threads: ThreadsOption = None,
    strict: StrictOption = False,
    provider_option: ProviderOptions = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check a bundle on this machine: hashes, contract, golden outputs, execution providers.

    salgan-edge verify my-bundle --device cuda

    Needs neither PyTorch nor onnx. The exit code is 0 if nothing failed, 1 otherwise.
    """
    from salgan_edge.verify.verify import verify_bundle  # noqa: PLC0415

    execution = execution_of(device.value, threads, strict, provider_option)
    with one_line_warnings():
        report = verify_bundle(bundle, execution)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        _show(report)
    if not report.passed:
        raise typer.Exit(1)


def _show(report: VerifyReport) -> None:
    if report.bundle_id is None:
        typer.echo(f"{report.bundle}: bundle that cannot be read")
    else:
        typer.echo(f"{report.name}, bundle {report.bundle_id}, {report.precision}")
    versions = ", ".join(
        f"{name} {version}" for name, version in report.versions.items() if name != "machine"
    )
    typer.echo(f"on {report.device or 'no device'}; {versions}; {report.versions['machine']}\n")
    width = max(len(check.name) for check in report.checks)
    for check in report.checks:
        typer.echo(f"{_MARKS[check.status]:<5} {check.name:<{width}}  {check.detail}")
    counts = {status: sum(check.status == status for check in report.checks) for status in _MARKS}
    parts = [f"{counts['ok']} checks passed"]
    parts += [f"{counts['fail']} failed"] if counts["fail"] else []
    parts += [f"{counts['skipped']} could not be made"] if counts["skipped"] else []
    parts += [f"{counts['absent']} not in this bundle"] if counts["absent"] else []
    typer.echo(f"\n{'passed' if report.passed else 'FAILED'}: {', '.join(parts)}")
