"""The result of a benchmark as one JSON object, and the schema that it keeps to.

For other modules: a `Record` has `rows`; a `Row` has a `group`, a `name`, `parameters`, `stats` (None for a
row that is no time), `ratios` to other rows, and `values` for all other figures. `load` and `save`
check what they read and write.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salgan_edge.benchmarks.schema import problems

from salgan_edge import contract
from salgan_edge._version import __version__
from salgan_edge.errors import InputError
from salgan_edge.files import writing
from salgan_edge.timing import Ratio, Stats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from salgan_edge.bundle import Manifest

__all__ = [
    "GROUPS",
    "SCHEMA_NAME",
    "SCHEMA_VERSION",
    "Record",
    "Row",
    "bundle_entry",
    "load",
    "save",
    "validate",
]

SCHEMA_NAME = "salgan-edge-benchmark"
SCHEMA_VERSION = 1
GROUPS = (
    "load", "stage", "end_to_end", "threads", "prompts", "batch", "frame", "device", "precision", "memory",
    "peer", "soak",
)  # fmt: skip
"""What rows are about, in the order they are shown."""

_SCHEMA_FILE = Path(__file__).parent / "results" / "schema.json"
_MOST_SAMPLES = 120
"""Of one row that are kept in a file."""


@dataclass(frozen=True)
class Row:
    """One line of a result."""

    group: str
    """One of `GROUPS`."""
    name: str
    """What was measured."""
    parameters: Mapping[str, str | int | float | None] = field(default_factory=dict)
    """Under which conditions: threads, prompts, batch, width, height, device, bundle (its number)."""
    stats: Stats | None = None
    """Times; None for figures of another kind."""
    ratios: Mapping[str, Ratio] = field(default_factory=dict)
    """How many times as long this takes as others of the same interleaved run, by their names."""
    values: Mapping[str, float | None] = field(default_factory=dict)
    """Other figures, by names that end in their unit: ``peak_mb``, ``images_per_second``."""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The row, ready for JSON; at most 120 samples of it, from all blocks."""
        return {
            "group": self.group,
            "name": self.name,
            "parameters": dict(self.parameters),
            "stats": None if self.stats is None else self.stats.to_dict(),
            "ratios": {
                name: {key: float(f"{value:.5g}") for key, value in ratio._asdict().items()}
                for name, ratio in self.ratios.items()
            },
            "values": {
                key: None if value is None else float(f"{value:.6g}") for key, value in self.values.items()
            },
            "note": self.note,
            "samples_ms": [] if self.stats is None else _thinned(self.stats.blocks),
        }

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Row:
        """A row as it was saved, with the samples that were kept."""
        stats = None
        if raw["stats"] is not None:
            stats = Stats(**raw["stats"], blocks=tuple(tuple(block) for block in raw["samples_ms"]))
        ratios = {name: Ratio(**ratio) for name, ratio in raw["ratios"].items()}
        return Row(raw["group"], raw["name"], raw["parameters"], stats, ratios, raw["values"], raw["note"])


@dataclass(frozen=True)
class Record:
    """A whole result."""

    machine: Mapping[str, Any]
    """Of `salgan_edge.benchmarks.machine.machine`."""
    settings: Mapping[str, Any]
    """What was asked for."""
    bundles: Sequence[Mapping[str, Any]]
    """Of `bundle_entry`, in the order that rows number them, from 0."""
    rows: Sequence[Row]
    date: str
    """When it was taken: UTC, ISO 8601, to the second."""
    seconds: float
    """That it took."""
    tool: str = __version__
    """Version of salgan-edge."""

    def to_dict(self) -> dict[str, Any]:
        """The record, ready for JSON."""
        return {
            "schema": {"name": SCHEMA_NAME, "version": SCHEMA_VERSION},
            "tool": self.tool,
            "date": self.date,
            "seconds": round(self.seconds, 1),
            "machine": dict(self.machine),
            "settings": dict(self.settings),
            "bundles": [dict(bundle) for bundle in self.bundles],
            "rows": [row.to_dict() for row in self.rows],
        }

    def to_json(self) -> str:
        """The record as it is written: each row on one line, so that a difference can be read."""
        values = self.to_dict()
        rows = values.pop("rows")
        head = json.dumps(values, ensure_ascii=False, indent=2, allow_nan=False).removesuffix("\n}")
        lines = ",\n".join(f"    {json.dumps(row, ensure_ascii=False, allow_nan=False)}" for row in rows)
        return f'{head},\n  "rows": [\n{lines}\n  ]\n}}\n'

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Record:
        """A record of a dictionary that `validate` has accepted."""
        return Record(
            machine=raw["machine"],
            settings=raw["settings"],
            bundles=raw["bundles"],
            rows=[Row.from_dict(row) for row in raw["rows"]],
            date=raw["date"],
            seconds=raw["seconds"],
            tool=raw["tool"],
        )


def bundle_entry(manifest: Manifest) -> dict[str, Any]:
    """What a record tells of a bundle; no path, and the scores that its manifest has."""
    accuracy = {
        split: {
            **{name: score for name, score in scores.get("all", {}).items() if _is_number(score)},
            **({"pointing": scores["pointing"]} if _is_number(scores.get("pointing")) else {}),
        }
        for split, scores in manifest.metrics.items()
        if isinstance(scores, dict) and isinstance(scores.get("all", {}), dict)
    }
    return {
        "bundle_id": manifest.bundle_id,
        "name": manifest.name,
        "preset": manifest.preset,
        "precision": manifest.precision,
        "generator_sha256": manifest.files[contract.GENERATOR_FILE].sha256,
        "text_encoder_sha256": (
            manifest.files[contract.TEXT_ENCODER_FILE].sha256
            if contract.TEXT_ENCODER_FILE in manifest.files
            else None
        ),
        "bytes": sum(record.bytes for record in manifest.files.values()),
        "input_size": list(manifest.input_size),
        "grid": list(manifest.grid),
        "accuracy": {split: scores for split, scores in accuracy.items() if scores},
    }


def validate(record: Mapping[str, Any]) -> list[str]:
    """What is wrong with a record, a line each; nothing where it keeps to the schema."""
    return problems(record, _schema())


def load(path: Path) -> Record:
    """Read a record.

    Raises:
        InputError: there is no such file, or it holds no record of a version that is known.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror or error}; give a file that salgan-edge benchmark -o wrote"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no JSON: {error}; give a file that salgan-edge benchmark -o wrote"
        ) from error
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if not isinstance(schema, dict) or schema.get("name") != SCHEMA_NAME:
        raise InputError(
            f"{path} is no result of a benchmark: give a file that salgan-edge benchmark -o wrote"
        )
    version = schema.get("version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"{path} has version {version}, this salgan-edge reads up to {SCHEMA_VERSION}: pip install -U salgan-edge"
        )
    if wrong := validate(raw):
        raise InputError(
            f"{path} is damaged: {wrong[0]}{f' (and {len(wrong) - 1} more)' if len(wrong) > 1 else ''}; measure again"
        )
    return Record.from_dict(raw)


def save(record: Record, path: Path) -> None:
    """Write a record; the file appears complete or not at all.

    Raises:
        OutputError: the place cannot be written.
    """
    assert not (wrong := validate(record.to_dict())), wrong
    with writing(path) as temporary:
        temporary.write_text(record.to_json(), encoding="utf-8")


@functools.cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(_SCHEMA_FILE.read_text(encoding="utf-8"))
    return schema


def _thinned(blocks: Sequence[Sequence[float]]) -> list[list[float]]:
    """As many samples of each block, evenly chosen, as are kept in all."""
    share = max(1, _MOST_SAMPLES // max(1, len(blocks)))
    thin = []
    for block in blocks[:_MOST_SAMPLES]:
        step = max(1, -(-len(block) // share))
        thin.append([round(sample, 4) for sample in block[::step]])
    return thin


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
