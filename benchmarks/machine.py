"""What a benchmark was taken on: no name of a host or a user and no path is in it."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from salgan_edge._version import __version__
from salgan_edge.devices import installed_packages
from salgan_edge.doctor.system import gather_processor, gather_python, gather_system

__all__ = ["Pace", "machine", "machine_name", "pace"]

_SYS = Path("/sys")
_PROC = Path("/proc")
_OF_THE_CPU = re.compile(r"x86_pkg|coretemp|k10temp|zenpower|cpu|soc|pkg|tdie|tctl", re.IGNORECASE)
"""Kinds of temperature sensors that sit on a processor."""
_POSSIBLE = (-40.0, 150.0)
"""Degrees Celsius; a sensor that is not there tells 0 kelvin, or 255."""
_PACKAGES = ("numpy", "opencv-python", "opencv-python-headless", "tokenizers")


@dataclass(frozen=True)
class Pace:
    """How fast the processor may run and does, and how hot it is. None where the system does not tell."""

    governor: str | None = None
    """Linux's policy of clock rates: ``performance``, ``powersave``, ``schedutil``; several joined by a comma."""
    mhz: float | None = None
    """Mean clock rate of all CPUs now."""
    most_mhz: float | None = None
    """Highest clock rate that any CPU has."""
    celsius: float | None = None
    """Of the hottest sensor on the processor; of any other where none is known to be there."""


def pace(sys: Path = _SYS, proc: Path = _PROC) -> Pace:
    """Clock rate and temperature now. Linux only; elsewhere all is None.

    Args:
        sys: where sysfs is mounted.
        proc: where procfs is mounted.
    """
    folders = sorted(sys.glob("devices/system/cpu/cpu[0-9]*/cpufreq"))
    governors = dict.fromkeys(
        text for folder in folders if (text := _text(folder / "scaling_governor").strip())
    )
    # Kilohertz.
    current = [value / 1000 for folder in folders if (value := _number(folder / "scaling_cur_freq"))]
    most = [value / 1000 for folder in folders if (value := _number(folder / "cpuinfo_max_freq"))]
    if not current:
        lines = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _text(proc / "cpuinfo"), re.MULTILINE)
        current = [float(line) for line in lines]
    return Pace(
        governor=", ".join(governors) or None,
        mhz=round(sum(current) / len(current), 1) if current else None,
        most_mhz=round(max(most), 1) if most else None,
        celsius=_temperature(sys),
    )


def _temperature(sys: Path) -> float | None:
    """Degrees Celsius of the hottest sensor on the processor."""
    found: list[tuple[bool, float]] = []
    for zone in sys.glob("class/thermal/thermal_zone*"):
        found += _sensor(zone / "temp", _text(zone / "type"))
    for chip in sys.glob("class/hwmon/hwmon*"):
        name = _text(chip / "name")
        for file in chip.glob("temp*_input"):
            found += _sensor(file, name + _text(file.with_name(file.name.replace("_input", "_label"))))
    on_cpu = [celsius for cpu, celsius in found if cpu]
    others = [celsius for cpu, celsius in found if not cpu]
    return max(on_cpu or others, default=None)


def _sensor(file: Path, kind: str) -> list[tuple[bool, float]]:
    """Whether a sensor sits on a processor, and its degrees Celsius; nothing where it tells nonsense."""
    value = _number(file)
    if value is None or not _POSSIBLE[0] < value / 1000 < _POSSIBLE[1] or value == 0:
        return []
    return [(_OF_THE_CPU.search(kind) is not None, round(value / 1000, 1))]


def machine(sys: Path = _SYS, proc: Path = _PROC) -> dict[str, Any]:
    """Processor, memory, system and versions, ready for JSON."""
    processor, system, python = gather_processor(), gather_system(), gather_python()
    return {
        "name": machine_name(processor.model or processor_kind(), processor.allowed),
        "cpu": processor.model or processor_kind(),
        "features": list(processor.features),
        "cores": processor.cores,
        "allowed_cpus": processor.allowed,
        "quota": processor.quota,
        "memory_bytes": processor.memory,
        "memory_limit_bytes": processor.memory_limit,
        **asdict(pace(sys, proc)),
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
    """Programs that wanted a CPU in the last minute, on average; None where the system does not tell."""
    if not hasattr(os, "getloadavg"):
        return None
    with contextlib.suppress(OSError):
        return round(os.getloadavg()[0], 2)
    return None


def processor_kind() -> str:
    """What there is to say of a processor that does not tell its model."""
    return platform.machine() or "unknown"


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


def _number(file: Path) -> float | None:
    with contextlib.suppress(ValueError):
        return float(_text(file).strip())
    return None


def _text(file: Path) -> str:
    # Sensors that sleep answer with an error.
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace")
    return ""
