"""Python, operating system, processor and memory, and the installed packages. Loads nothing native here."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salgan_edge._version import __version__
from salgan_edge.cpus import allowed_cpus, control_groups, cpu_quota
from salgan_edge.devices import installed_packages, packages_in
from salgan_edge.doctor.probe import ask

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Imported",
    "Packages",
    "Processor",
    "Python",
    "System",
    "gather_packages",
    "gather_processor",
    "gather_python",
    "gather_system",
    "normal",
    "probe_import",
    "version_key",
]

_FEATURES = (
    "sse4_1", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_int8", "neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
"""What onnxruntime and OpenCV have kernels for, by Linux's names."""
_WINDOWS_FEATURES = {37: "sse4_1", 39: "avx", 40: "avx2", 41: "avx512f", 19: "neon", 43: "asimddp"}
_MAC_FEATURES = {
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_FP16": "asimdhp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
}
_SETTINGS = (
    "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH",
    "OMP_NUM_THREADS", "ORT_DISABLE_ALL", "QT_QPA_PLATFORM", "OPENCV_VIDEOIO_PRIORITY_LIST",
    "OPENCV_FFMPEG_CAPTURE_OPTIONS", "LD_PRELOAD",
)  # fmt: skip
_MANAGERS = ("apt-get", "dnf", "pacman", "apk", "brew", "winget")
_ONLY_WHETHER = frozenset({"OPENCV_FFMPEG_CAPTURE_OPTIONS", "LD_PRELOAD"})
"""May hold a password of a camera: only whether they are set is told."""


@dataclass(frozen=True)
class Python:
    """The Python that runs this."""

    version: str = ""
    implementation: str = "CPython"
    executable: str = ""
    environment: str = "venv"
    """``venv``, ``conda`` or ``system``."""
    bits: int = 64
    free_threaded: bool = False
    translated: bool = False
    """Built for Intel, run by Rosetta on an Apple chip."""
    externally_managed: bool = False
    """pip refuses to install here (PEP 668)."""
    pip: str = "pip"
    """What installs into this Python: ``pip`` only where the ``pip`` that a shell finds is this one's."""
    pip_missing: bool = False
    """This Python has no pip, and there is no uv either."""


@dataclass(frozen=True)
class System:
    """Operating system and what surrounds it."""

    kind: str = "Linux"
    """``Linux``, ``Darwin`` or ``Windows``."""
    name: str = ""
    """As people call it: ``Ubuntu 24.04 LTS``."""
    release: str = ""
    machine: str = ""
    """``x86_64``, ``aarch64``, ``arm64``..."""
    libc: str = ""
    board: str = ""
    """Of a single-board computer, from its device tree: ``Raspberry Pi 5 Model B``."""
    jetson: str = ""
    """First line of ``/etc/nv_tegra_release`` of NVIDIA's Jetson boards."""
    container: str = ""
    """``docker``, ``podman``, ``kubernetes``, ``lxc`` or ``container``; empty outside."""
    wsl: bool = False
    manager: str = ""
    """Its package manager: ``apt-get``, ``dnf``, ``pacman``, ``apk``, ``brew``, ``winget``."""
    settings: dict[str, str] = field(default_factory=dict)
    """Environment variables that change how this program runs."""


@dataclass(frozen=True)
class Processor:
    """CPU and memory."""

    model: str = ""
    features: tuple[str, ...] = ()
    """Vector instructions that there are kernels for."""
    cores: int = 0
    """Logical CPUs of the machine."""
    affinity: int | None = None
    """CPUs that the scheduler may use for this process; None where the system does not tell."""
    quota: float | None = None
    """CPUs' worth of time that the control group allows; None without a limit."""
    allowed: int = 0
    """Threads that salgan-edge uses by default."""
    memory: int | None = None
    """Bytes of the machine."""
    memory_free: int | None = None
    """Bytes that programs can still get."""
    memory_limit: int | None = None
    """Bytes that the control group allows; None without a limit."""


def gather_python() -> Python:
    """Facts about this Python."""
    environment = "system"
    if sys.prefix != sys.base_prefix:
        environment = "venv"
    elif (Path(sys.prefix) / "conda-meta").is_dir():
        environment = "conda"
    managed = (
        environment == "system" and (Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED").is_file()
    )
    pip, missing = _pip()
    return Python(
        version=platform.python_version(),
        implementation=platform.python_implementation(),
        executable=sys.executable,
        environment=environment,
        bits=64 if sys.maxsize > 2**32 else 32,
        free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        translated=platform.system() == "Darwin" and _sysctl("sysctl.proc_translated") == "1",
        externally_managed=managed,
        pip=pip,
        pip_missing=missing,
    )


def _pip() -> tuple[str, bool]:
    """What to type to install into this Python and no other, and whether it must be installed first."""
    executable = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    try:
        metadata.version("pip")
    except metadata.PackageNotFoundError:
        return ("uv pip", False) if shutil.which("uv") else (f"{executable} -m pip", True)
    found = shutil.which("pip")
    own = found is not None and Path(found).parent == Path(sys.executable).parent
    return ("pip" if own else f"{executable} -m pip"), False


def gather_system() -> System:
    """Facts about the operating system. The host's name is left out."""
    kind = platform.system()
    return System(
        kind=kind,
        name=_name(kind),
        release=platform.release(),
        machine=platform.machine(),
        libc=_libc(kind),
        board=_text(Path("/proc/device-tree/model")).strip("\0 \n"),
        jetson=(_text(Path("/etc/nv_tegra_release")).splitlines() or [""])[0],
        container=_container(),
        wsl="microsoft" in platform.release().lower(),
        manager=next((name for name in _MANAGERS if shutil.which(name)), ""),
        settings={
            name: "set" if name in _ONLY_WHETHER else os.environ[name]
            for name in _SETTINGS
            if name in os.environ
        },
    )


def _name(kind: str) -> str:
    if kind == "Darwin":
        return f"macOS {platform.mac_ver()[0]}"
    if kind == "Windows":
        return f"Windows {platform.win32_ver()[1]}"
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return ""


def _libc(kind: str) -> str:
    if kind != "Linux":
        return ""
    name, version = platform.libc_ver()
    if name:
        return f"{name} {version}"
    # Alpine: no wheels of onnxruntime or OpenCV fit.
    return "musl" if list(Path("/lib").glob("ld-musl-*")) else ""


def _container() -> str:
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    first = _text(Path("/proc/1/cgroup"))
    for word, name in (("kubepods", "kubernetes"), ("docker", "docker"), ("lxc", "lxc")):
        if word in first:
            return name
    return "container" if os.environ.get("container") else ""  # noqa: SIM112 - systemd writes it small


def gather_processor() -> Processor:
    """Facts about CPU and memory."""
    info = _text(Path("/proc/cpuinfo"))
    memory, free = _memory()
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return Processor(
        model=_model(info),
        features=_features(info),
        cores=os.cpu_count() or 0,
        affinity=affinity,
        quota=cpu_quota(),
        allowed=allowed_cpus(),
        memory=memory,
        memory_free=free,
        memory_limit=_memory_limit(memory),
    )


def _model(info: str) -> str:
    fields = _fields(info)
    for key in ("model name", "Model", "Hardware"):
        if fields.get(key):
            return fields[key]
    if platform.system() == "Darwin":
        return _sysctl("machdep.cpu.brand_string")
    part = fields.get("CPU part")
    if part:
        return f"ARM part {part} of implementer {fields.get('CPU implementer', '?')}"
    return platform.processor()


def _features(info: str) -> tuple[str, ...]:
    fields = _fields(info)
    words = set((fields.get("flags") or fields.get("Features") or "").split())
    if platform.system() == "Darwin":
        words = {name for key, name in _MAC_FEATURES.items() if _sysctl(key) == "1"}
        words |= {"neon"} if platform.machine() == "arm64" else set()
    elif platform.system() == "Windows":
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent  # type: ignore[attr-defined,unused-ignore]
        words = {name for number, name in _WINDOWS_FEATURES.items() if present(number)}
    return tuple(name for name in _FEATURES if name in words)


def _fields(info: str) -> dict[str, str]:
    """Of the first CPU that has them."""
    found: dict[str, str] = {}
    for line in info.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def _memory() -> tuple[int | None, int | None]:
    """Bytes of the machine, and those that programs can still get."""
    try:
        import psutil  # noqa: PLC0415 - a report is wanted where packages are missing, too
    except ImportError:
        return None, None
    found = psutil.virtual_memory()
    return found.total, found.available


def _memory_limit(memory: int | None) -> int | None:
    limits = []
    for folder in control_groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(ValueError):
                limits.append(int(_text(folder / name)))
    limit = min(limits, default=None)
    # Without a limit version 1 gives a number beyond any machine's memory.
    return None if limit is None or (memory is not None and limit >= memory) else limit


def _sysctl(key: str) -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(  # noqa: S603 - keys of this file
            ["/usr/sbin/sysctl", "-n", key],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        ).stdout.strip()
    return ""


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


# Installed packages

_MODULES = {"numpy": "numpy", "opencv": "cv2", "tokenizers": "tokenizers", "onnxruntime": "onnxruntime"}
"""What `predict` imports, by the names of this report."""


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
    families = installed_packages(), packages_in("cv2", ("opencv",))
    several = {name for family in families if len(family) > 1 for name in family}
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
        onnxruntime=families[0],
        opencv=families[1],
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
        from salgan_edge.doctor.vision import describe  # noqa: PLC0415

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
