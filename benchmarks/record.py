"""The result of a benchmark as one JSON object: the machine, the bundles, and a row for each figure.

A `Record` has `rows`; a `Row` has a `group`, a `name`, `parameters`, `stats` (None for a row that is no time),
`ratios` to other rows, and `values` for all other figures. The JSON Schema of a file is ``benchmarks/results/schema.json`` in the repository.
No name of a host or a user and no path is in it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import re
import tempfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from salgan_edge import contract
from salgan_edge._version import __version__
from salgan_edge.devices import installed_packages
from salgan_edge.doctor.system import gather_processor, gather_python, gather_system
from salgan_edge.errors import InputError, OutputError
from salgan_edge.files import writing
from salgan_edge.timing import Ratio, Stats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from salgan_edge.bundle import Manifest

__all__ = [
    "GOVERNORS",
    "GROUPS",
    "SCHEMA_NAME",
    "SCHEMA_VERSION",
    "Pace",
    "Record",
    "Row",
    "bundle_entry",
    "check_place",
    "load",
    "machine",
    "machine_name",
    "pace",
    "save",
]

SCHEMA_NAME = "salgan-edge-benchmark"
SCHEMA_VERSION = 1
GROUPS = (
    "load", "stage", "end_to_end", "threads", "prompts", "batch", "frame", "device", "precision", "memory",
    "peer", "soak",
)  # fmt: skip
"""Groups of rows, in the order they are shown."""

GOVERNORS = Path("/sys/devices/system/cpu")
"""Where Linux keeps each CPU's policy of clock rates."""
_OF_THE_CPU = re.compile(r"x86_pkg|coretemp|k10temp|zenpower|cpu|soc|pkg|tdie|tctl", re.IGNORECASE)
"""Kinds of temperature sensors that sit on a processor."""
_POSSIBLE = (-40.0, 150.0)
"""Degrees Celsius; a sensor that is not there reads 0 kelvin, or 255."""
_PACKAGES = ("numpy", "opencv-python", "opencv-python-headless", "tokenizers")
_MOST_SAMPLES = 120
"""Most samples of one row that a file keeps."""


@dataclass(frozen=True)
class Row:
    """One line of a result."""

    group: str
    """One of `GROUPS`."""
    name: str
    """What was measured."""
    parameters: Mapping[str, str | int | float | None] = field(default_factory=dict)
    """Conditions: threads, prompts, batch, width, height, device, bundle (its number)."""
    stats: Stats | None = None
    """Times; None for figures of another kind."""
    ratios: Mapping[str, Ratio] = field(default_factory=dict)
    """Times of this row by those of others that were timed in turn with it, by their names."""
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
            figures = {name: raw["stats"][name] for name in _STATS}
            stats = Stats(**figures, blocks=tuple(tuple(block) for block in raw["samples_ms"]))
        ratios = {
            name: Ratio(ratio["ratio"], ratio["low"], ratio["high"]) for name, ratio in raw["ratios"].items()
        }
        return Row(raw["group"], raw["name"], raw["parameters"], stats, ratios, raw["values"], raw["note"])


@dataclass(frozen=True)
class Record:
    """A whole result."""

    machine: Mapping[str, Any]
    """Of `machine`."""
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
        """A record of a dictionary, as `to_dict` gives it.

        Raises:
            ValueError: something is missing or of another kind; the message names the place.
        """
        _require(raw, "the record", _RECORD)
        _require(raw["machine"], "machine", _MACHINE)
        for number, bundle in enumerate(raw["bundles"]):
            _require(bundle, f"bundles[{number}]", _BUNDLE)
        for number, row in enumerate(raw["rows"]):
            _require_row(row, f"rows[{number}]")
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
    """Describes a bundle in a record: identity, precision, sizes, and the scores of its manifest; no path."""
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


_TEXT, _LIST, _TABLE, _COUNT, _NUMBER, _NONE = (str,), (list,), (dict,), (int,), (int, float), (type(None),)
_RECORD = {
    "tool": _TEXT, "date": _TEXT, "seconds": _NUMBER, "machine": _TABLE, "settings": _TABLE, "bundles": _LIST, "rows": _LIST,
}  # fmt: skip
"""What a file must have for this program to use it, with its kinds. All that a file may have is in the schema."""
_MACHINE = {
    "name": _TEXT, "cpu": _TEXT, "cores": _COUNT, "allowed_cpus": _COUNT, "architecture": _TEXT, "features": _LIST,
    "governor": _TEXT + _NONE, "load": _NUMBER + _NONE, "packages": _TABLE, "python": _TEXT,
}  # fmt: skip
_BUNDLE = {"bundle_id": _TEXT, "name": _TEXT, "precision": _TEXT, "accuracy": _TABLE}
_ROW = {
    "group": _TEXT, "name": _TEXT, "parameters": _TABLE, "stats": _TABLE + _NONE, "ratios": _TABLE, "values": _TABLE,
    "note": _TEXT, "samples_ms": _LIST,
}  # fmt: skip
_STATS = {part.name: _NUMBER for part in fields(Stats) if part.name != "blocks"} | {"cpu_ms": _NUMBER + _NONE}
_RATIO = dict.fromkeys(Ratio._fields, _NUMBER)


def _require(raw: Any, place: str, kinds: Mapping[str, tuple[type, ...]]) -> None:
    """Check that an object has members of the kinds given, others left aside.

    Raises:
        ValueError: it has not.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"{place} is {raw!r:.60}: an object was expected")  # noqa: TRY004 - of a file, not of the caller
    for name, kind in kinds.items():
        if name not in raw:
            raise ValueError(f"{place} has no {name}")
        if not _is(raw[name], kind):
            expected = " or ".join(one.__name__ for one in kind)
            raise ValueError(f"{place}.{name} is {raw[name]!r:.60}: {expected} was expected")


def _require_row(raw: Any, place: str) -> None:
    _require(raw, place, _ROW)
    if raw["group"] not in GROUPS:
        raise ValueError(f"{place}.group is {raw['group']!r}: one of {', '.join(GROUPS)} was expected")
    _require(
        raw["parameters"], f"{place}.parameters", dict.fromkeys(raw["parameters"], _TEXT + _NUMBER + _NONE)
    )
    _require(raw["values"], f"{place}.values", dict.fromkeys(raw["values"], _NUMBER + _NONE))
    if raw["stats"] is not None:
        _require(raw["stats"], f"{place}.stats", _STATS)
    for name, ratio in raw["ratios"].items():
        _require(ratio, f"{place}.ratios.{name}", _RATIO)
    if not all(
        _is(block, _LIST) and all(_is(sample, _NUMBER) for sample in block) for block in raw["samples_ms"]
    ):
        raise ValueError(f"{place}.samples_ms holds something else than lists of numbers")


def _is(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether a value is of one of the kinds; true and false are no numbers, and numbers are finite."""
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) and not (isinstance(value, float) and not math.isfinite(value))


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
    try:
        return Record.from_dict(raw)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; measure again") from error


def save(record: Record, path: Path) -> None:
    """Write a record; the file appears complete or not at all.

    Raises:
        OutputError: the place cannot be written.
    """
    with writing(path) as temporary:
        temporary.write_text(record.to_json(), encoding="utf-8")


def check_place(file: Path | None) -> None:
    """Refuse at once what could not be written after minutes of measuring.

    Raises:
        OutputError: the file is a folder, or its folder cannot be written.
    """
    if file is None:
        return
    if file.is_dir():
        raise OutputError(f"{file} is a folder: give the name of a file")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        raise OutputError(f"cannot write {file}: {error.strerror or error}; choose another place") from error


def _thinned(blocks: Sequence[Sequence[float]]) -> list[list[float]]:
    """Samples of every block, evenly chosen, at most `_MOST_SAMPLES` in all."""
    share = max(1, _MOST_SAMPLES // max(1, len(blocks)))
    thin = []
    for block in blocks[:_MOST_SAMPLES]:
        step = max(1, -(-len(block) // share))
        thin.append([round(sample, 4) for sample in block[::step]])
    return thin


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Pace:
    """Clock rates and temperature of the processor; None where the system does not report them."""

    governor: str | None = None
    """Linux's policies of clock rates, such as ``performance`` or ``powersave``, with commas between."""
    mhz: float | None = None
    """Mean clock rate of all CPUs now."""
    most_mhz: float | None = None
    """Highest clock rate that any CPU has."""
    celsius: float | None = None
    """Of the hottest sensor on the processor; of any other where none is known to be there."""


def pace() -> Pace:
    """Clock rate and temperature now."""
    governors = dict.fromkeys(
        text for file in sorted(GOVERNORS.glob("cpu[0-9]*/cpufreq/scaling_governor")) if (text := _text(file))
    )
    clocks: list[Any] = []
    with contextlib.suppress(AttributeError, NotImplementedError, OSError):
        clocks = psutil.cpu_freq(percpu=True) or []
    current = [clock.current for clock in clocks if clock.current]
    most = [clock.max for clock in clocks if clock.max]
    return Pace(
        governor=", ".join(governors) or None,
        mhz=round(sum(current) / len(current), 1) if current else None,
        most_mhz=round(max(most), 1) if most else None,
        celsius=_temperature(),
    )


def _temperature() -> float | None:
    """Degrees Celsius of the hottest sensor on the processor, of any other where none is known to be there."""
    chips: dict[str, Any] = {}
    with contextlib.suppress(AttributeError, OSError):  # not every system has them
        chips = psutil.sensors_temperatures()
    found = [
        (_OF_THE_CPU.search(f"{chip} {sensor.label}") is not None, round(sensor.current, 1))
        for chip, sensors in chips.items()
        for sensor in sensors
        if sensor.current and _POSSIBLE[0] < sensor.current < _POSSIBLE[1]
    ]
    on_cpu = [celsius for cpu, celsius in found if cpu]
    return max(on_cpu or [celsius for _, celsius in found], default=None)


def machine() -> dict[str, Any]:
    """Processor, memory, system and versions, ready for JSON."""
    processor, system, python = gather_processor(), gather_system(), gather_python()
    model = processor.model or platform.machine() or "unknown"
    return {
        "name": machine_name(model, processor.allowed),
        "cpu": model,
        "features": list(processor.features),
        "cores": processor.cores,
        "allowed_cpus": processor.allowed,
        "quota": processor.quota,
        "memory_bytes": processor.memory,
        "memory_limit_bytes": processor.memory_limit,
        **asdict(pace()),
        "load": _load(),
        "system": system.name or system.kind,
        "kernel": "".join(re.findall(r"^\d[\d.]*", system.release)),
        "architecture": system.machine,
        "board": system.board or None,
        "container": system.container or None,
        "python": python.version,
        "packages": _packages(),
        "omp_num_threads": system.settings.get("OMP_NUM_THREADS"),
    }


def _load() -> float | None:
    """Load average of the last minute; None where the system does not report it."""
    if not hasattr(os, "getloadavg"):
        return None
    with contextlib.suppress(OSError):
        return round(os.getloadavg()[0], 2)
    return None


def machine_name(model: str, allowed: int) -> str:
    """A short name for files: CPUs that may be used, and the model of the processor.

    >>> machine_name("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz", 4)
    '4-core-intel-core-i5-8250u'
    >>> machine_name("AMD EPYC 7763 64-Core Processor", 2)
    '2-core-amd-epyc-7763'
    """
    plain = re.sub(
        r"\((?:R|TM|C)\)|@.*|\bwith .*|\b\d+-Core\b|\bCPU\b|\bProcessor\b", " ", model, flags=re.IGNORECASE
    )
    words = re.findall(r"[a-z0-9]+", plain.lower())
    return "-".join([str(allowed), "core", *(words or ["unknown"])])


def _packages() -> dict[str, str]:
    from importlib import metadata  # noqa: PLC0415 - 0.01 s

    found = {"salgan-edge": __version__, **installed_packages()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _text(file: Path) -> str:
    # Files of sysfs may answer with an error.
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace").strip()
    return ""
