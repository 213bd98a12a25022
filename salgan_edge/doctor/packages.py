"""Installed packages: what their metadata say, and whether they can be imported."""

from __future__ import annotations

import contextlib
import importlib
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salgan_edge._version import __version__
from salgan_edge.doctor.child import ask

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Imported", "Packages", "gather_packages", "normal", "probe_import", "version_key"]

_MODULES = {"numpy": "numpy", "opencv": "cv2", "tokenizers": "tokenizers", "onnxruntime": "onnxruntime"}
"""What `predict` imports, by the names of this report."""
_FAMILIES = {"onnxruntime": (("onnxruntime", "ort-"), "onnxruntime/capi/"), "opencv": (("opencv",), "cv2/")}
"""Beginnings of the names of packages that may write into one folder, and that folder."""


@dataclass(frozen=True)
class Imported:
    """What importing a package gave."""

    version: str | None = None
    place: str = ""
    """Folder that was imported."""
    problem: str = ""
    """Why it cannot be used."""
    stderr: tuple[str, ...] = ()
    milliseconds: float = 0.0
    """Of the import."""
    details: dict[str, Any] = field(default_factory=dict)
    """What only the package itself can tell."""


@dataclass(frozen=True)
class Packages:
    """Packages that count here."""

    salgan_edge: str = __version__
    installed: dict[str, str] = field(default_factory=dict)
    """Versions by the metadata, of this package's requirements and all of the two families."""
    required: dict[str, str] = field(default_factory=dict)
    """Lowest version that this package asks for."""
    onnxruntime: dict[str, str] = field(default_factory=dict)
    """Installed packages that fill the folder ``onnxruntime``: more than one overwrite each other."""
    opencv: dict[str, str] = field(default_factory=dict)
    """The same for ``cv2``."""
    wanted_by: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Who else requires each package of a family that is there several times."""
    imports: dict[str, Imported] = field(default_factory=dict)
    """Of numpy, opencv, tokenizers and onnxruntime."""


def gather_packages(timeout: float) -> Packages:
    """Look at metadata, and import what `predict` needs, each in its own subprocess.

    Args:
        timeout: seconds that one import may take.
    """
    versions = {normal(d.metadata["Name"]): d for d in metadata.distributions() if d.metadata["Name"]}
    required = _required()
    families = {name: _family(versions.values(), *family) for name, family in _FAMILIES.items()}
    several = {name for family in families.values() if len(family) > 1 for name in family}
    known = {
        name: found.version
        for name, found in sorted(versions.items())
        if name in required or name.startswith(("onnxruntime", "ort-", "opencv", "nvidia-", "tensorrt"))
    }
    with ThreadPoolExecutor(max_workers=len(_MODULES)) as pool:
        imports = dict(zip(_MODULES, pool.map(lambda name: _imported(name, timeout), _MODULES), strict=True))
    return Packages(
        installed=known,
        required=required,
        onnxruntime=families["onnxruntime"],
        opencv=families["opencv"],
        wanted_by=_wanted_by(versions.values(), several) if several else {},
        imports=imports,
    )


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def version_key(version: str) -> tuple[int, ...]:
    """Numbers at the beginning of a version, to compare releases by."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _required() -> dict[str, str]:
    """This package's own requirements: package and lowest version. Empty where it was not installed."""
    found = {}
    with contextlib.suppress(metadata.PackageNotFoundError):
        for line in metadata.requires("salgan-edge") or []:
            match = re.match(r"([\w.-]+)[^;<>=!~]*>=\s*([\d.]+)", line)
            if match and "extra ==" not in line:
                found[normal(match[1])] = match[2]
    return found


def _family(
    installed: Iterable[metadata.Distribution], beginnings: tuple[str, ...], folder: str
) -> dict[str, str]:
    """Packages of these names that have files in the folder, or whose list of files is lost."""
    found = {}
    for package in installed:
        name = normal(package.metadata["Name"])
        if name.startswith(beginnings):
            files = package.files
            if files is None or any(file.as_posix().startswith(folder) for file in files):
                found[name] = package.version
    return dict(sorted(found.items()))


def _wanted_by(
    installed: Iterable[metadata.Distribution], names: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    wanted: dict[str, list[str]] = {name: [] for name in names}
    for package in installed:
        own = normal(package.metadata["Name"])
        for line in package.requires or []:
            match = re.match(r"[\w.-]+", line)
            name = normal(match[0]) if match else ""
            if name in wanted and "extra ==" not in line and own != "salgan-edge":
                wanted[name].append(own)
    return {name: tuple(sorted(set(users))) for name, users in sorted(wanted.items()) if users}


def _imported(name: str, timeout: float) -> Imported:
    found = ask("import", _MODULES[name], timeout=timeout)
    values = found.values
    return Imported(
        version=values.get("version"),
        place=values.get("place", ""),
        problem=found.problem,
        stderr=found.stderr,
        milliseconds=values.get("milliseconds", 0.0),
        details=values.get("details", {}),
    )


def probe_import(module: str) -> dict[str, Any]:
    """In a subprocess: import a package and use it a little.

    Raises:
        Exception: whatever a broken package raises.
    """
    started = time.perf_counter()
    found: Any = importlib.import_module(module)
    milliseconds = 1000 * (time.perf_counter() - started)
    file = getattr(found, "__file__", None)
    details: dict[str, Any] = {}
    if module == "numpy":
        assert (found.ones((8, 8), found.float32) @ found.ones((8, 8), found.float32)).sum() == 512
    elif module == "cv2":
        from salgan_edge.doctor.opencv import describe  # noqa: PLC0415

        details = describe(found)
    elif module == "onnxruntime":
        details = _describe_onnxruntime(found)
    return {
        "version": getattr(found, "__version__", None),
        "place": str(Path(file).parent) if file else "",
        "milliseconds": round(milliseconds, 1),
        "details": details,
    }


def _describe_onnxruntime(runtime: Any) -> dict[str, Any]:
    """Providers, and what the package was built for.

    Raises:
        ImportError: its files are not whole.
    """
    if not hasattr(runtime, "InferenceSession"):
        # What is left when one of two packages was uninstalled.
        raise ImportError("the folder onnxruntime is there but empty: its files were removed or overwritten")
    details: dict[str, Any] = {"providers": list(runtime.get_available_providers())}
    with contextlib.suppress(Exception):
        info = importlib.import_module("onnxruntime.capi.build_and_package_info")
        details["package"] = getattr(info, "package_name", None)
        details["cuda"] = getattr(info, "cuda_version", None)
        details["cudnn"] = getattr(info, "cudnn_version", None)
    with contextlib.suppress(Exception):
        details["build"] = runtime.get_build_info()
    return details
