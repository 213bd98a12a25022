"""Results that are kept with the code, ``benchmarks/results/<version>/<machine>.json``: measured, found again, and checked.

They keep to ``benchmarks/results/schema.json``.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jsonschema
import typer
from salgan_edge.benchmarks.record import Record, check_place, load, save
from salgan_edge.benchmarks.report import peers_text

from salgan_edge.errors import InputError
from tools.measuring import (
    BundleOption,
    ClipsegOption,
    NeckOption,
    PeersOption,
    QuickOption,
    cpu_settings,
    measured,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DEFAULT_NAME",
    "RESULTS",
    "SCHEMA",
    "committed_files",
    "main",
    "nearest",
    "newest",
    "place_of",
    "problems",
]

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
SCHEMA = RESULTS / "schema.json"
DEFAULT_NAME = "clip-salgan-edge"
"""What the manifest of the embedded default bundle calls it."""


@functools.cache
def _validator() -> Any:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def problems(record: Mapping[str, Any]) -> list[str]:
    """What breaks the schema, a line each, with its place; nothing where all is well."""
    return [f"{error.json_path}: {error.message}" for error in _validator().iter_errors(record)]


def place_of(record: Record, folder: Path = RESULTS) -> Path:
    """Where a record belongs; that of another bundle than the default one has its name in it."""
    name = record.bundles[0]["name"] if record.bundles else DEFAULT_NAME
    other = "" if name == DEFAULT_NAME else f"-{name.removeprefix(f'{DEFAULT_NAME}-')}"
    return folder / record.tool / f"{record.machine['name']}{other}.json"


def committed_files(folder: Path = RESULTS) -> dict[str, list[Path]]:
    """Files of each version of salgan-edge, the newest version first."""
    versions = sorted(
        {file.parent.name for file in folder.glob("*/*.json")}, key=_version_order, reverse=True
    )
    return {version: sorted((folder / version).glob("*.json")) for version in versions}


def newest(folder: Path = RESULTS) -> list[Record]:
    """The records of the newest version that has any, by the machine's name; empty where none has.

    Raises:
        InputError: a file is damaged.
    """
    return [load(file) for files in list(committed_files(folder).values())[:1] for file in files]


def nearest(machine: Mapping[str, Any], folder: Path = RESULTS, name: str = DEFAULT_NAME) -> Record:
    """The record of the machine that is most like this one; of several, that of the newest version.

    Records of a bundle of the same name come first.

    Alike is first the architecture, then the name (CPUs allowed, and model), the model, the number of CPUs
    and the instruction sets.

    Args:
        machine: of `salgan_edge.benchmarks.record.machine`.
        folder: where results are kept.
        name: of the bundle, as its manifest has it.

    Raises:
        InputError: there is no record, or a file is damaged.
    """
    records = [load(file) for files in committed_files(folder).values() for file in files]
    if not records:
        raise InputError("no results are committed: make them on a quiet machine with python -m tools record")
    # The first of equals, hence of the newest version.
    return min(
        records,
        key=lambda record: (
            all(bundle["name"] != name for bundle in record.bundles[:1]),
            *_distance(record.machine, machine),
        ),
    )


def _distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[int, ...]:
    return (
        *(int(one[key] != other[key]) for key in ("architecture", "name", "cpu")),
        abs(one["allowed_cpus"] - other["allowed_cpus"]),
        len(set(one["features"]) ^ set(other["features"])),
    )


def _version_order(version: str) -> tuple[tuple[int, ...], bool, str]:
    """Releases in their order, and each after its own pre-releases (``1.0rc1`` before ``1.0``)."""
    release = re.match(r"\d+(?:\.\d+)*", version)
    numbers = tuple(int(number) for number in release[0].split(".")) if release else ()
    rest = version[len(release[0]) :] if release else version
    return numbers, not rest or rest.startswith("+"), rest


def main(
    bundle: BundleOption = None,
    names: PeersOption = "all",
    neck: NeckOption = None,
    clipseg: ClipsegOption = None,
    quick: QuickOption = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Default: benchmarks/results/VERSION/MACHINE.json."
        ),
    ] = None,
) -> None:
    """Measure all that is committed, in some minutes. Nothing else should run meanwhile."""
    from tools.gate import figures, figures_text  # noqa: PLC0415 - the gate reads what is committed

    check_place(output)
    found = measured(cpu_settings(bundle, (), names, quick=quick), neck, clipseg, live=True)
    assert not (wrong := problems(found.to_dict())), wrong
    typer.echo(peers_text([row for row in found.rows if row.group == "peer"]))
    typer.echo("")
    typer.echo(figures_text(figures(found)))
    place = output or place_of(found)
    save(found, place)
    typer.echo(str(place), err=True)
