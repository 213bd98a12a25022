"""NVIDIA: the device, its driver, and the libraries that onnxruntime-gpu loads."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salgan_edge.doctor.child import ask, run_limited

__all__ = ["Cuda", "Gpu", "Library", "gather_cuda", "probe_libraries"]

_FIELDS = "name,driver_version,memory.total,compute_cap"
_VENDOR = "0x10de"
_DISPLAY_CLASSES = ("0x03", "0x12")
"""PCI classes of graphics cards and of accelerators without a screen."""

_NAMES: dict[str, tuple[str, ...]] = {
    "cudart": ("13", "12", "11.0"),
    "cublas": ("13", "12", "11"),
    "cublasLt": ("13", "12", "11"),
    "cufft": ("12", "11", "10"),
    "curand": ("10",),
    "nvrtc": ("13", "12", "11.2"),
    "cudnn": ("9", "8"),
    "nvinfer": ("11", "10", "8"),
}
"""Libraries and the versions in their file names, the newest first."""


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA device as its driver describes it."""

    name: str = ""
    memory_mb: int | None = None
    compute: str = ""
    """Compute capability: ``8.9``."""


@dataclass(frozen=True)
class Library:
    """A library that can be loaded."""

    name: str = ""
    file: str = ""
    origin: str = ""
    """``pip`` or ``system``."""
    version: str = ""


@dataclass(frozen=True)
class Cuda:
    """What there is of CUDA."""

    device_files: tuple[str, ...] = ()
    """``/dev/nvidia0``..."""
    unreadable: tuple[str, ...] = ()
    """Those of them that this user may not open."""
    in_machine: bool = False
    """The PCI bus shows an NVIDIA device, with a driver or without."""
    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    """Version by nvidia-smi."""
    driver_cuda: str = ""
    """Newest CUDA that the driver runs, by libcuda."""
    driver_problem: str = ""
    """Why nvidia-smi or libcuda give nothing; empty where they work or there is neither."""
    libraries: tuple[Library, ...] = ()
    problem: str = ""
    """Why the libraries could not be looked for."""

    @property
    def present(self) -> bool:
        """There is an NVIDIA device that this process should be able to use or could be given."""
        return bool(self.device_files or self.gpus or self.in_machine)


def gather_cuda(timeout: float, *, libraries: bool) -> Cuda:
    """Facts about NVIDIA's device and software.

    Args:
        timeout: seconds for nvidia-smi, and for the libraries.
        libraries: also load the libraries; for who could want them.
    """
    files = tuple(sorted(str(path) for path in Path("/dev").glob("nvidia[0-9]*")))
    # Jetson boards have files of their own.
    files += tuple(str(path) for path in (Path("/dev/nvhost-gpu"), Path("/dev/nvgpu")) if path.exists())
    gpus, driver, problem = _smi(min(timeout, 10))
    in_machine = _on_bus()
    wanted = libraries or bool(files or gpus or in_machine)
    found = ask("cuda-libraries", timeout=timeout) if wanted else None
    values = found.values if found else {}
    return Cuda(
        device_files=files,
        unreadable=tuple(file for file in files if not os.access(file, os.R_OK | os.W_OK)),
        in_machine=in_machine,
        gpus=gpus,
        driver=driver,
        driver_cuda=values.get("driver_cuda", ""),
        driver_problem=problem or values.get("driver_problem", ""),
        libraries=tuple(Library(**library) for library in values.get("libraries", [])),
        problem=found.problem if found else "",
    )


def _smi(timeout: float) -> tuple[tuple[Gpu, ...], str, str]:
    """Devices, driver's version, and why there are none although nvidia-smi is there."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return (), "", ""
    try:
        code, out, err = run_limited(
            [program, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"], timeout
        )
    except OSError as error:
        return (), "", f"nvidia-smi cannot be started: {error.strerror or error}"
    if code is None:
        return (), "", f"nvidia-smi gives no answer within {timeout:g} s"
    if code != 0:
        told = (out + err).strip().splitlines()
        return (), "", f"nvidia-smi: {told[0] if told else f'exit code {code}'}"
    rows = [[cell.strip() for cell in line.split(",")] for line in out.splitlines()]
    rows = [row for row in rows if len(row) == 4]
    gpus = tuple(Gpu(row[0], int(row[2]) if row[2].isdecimal() else None, row[3]) for row in rows)
    return gpus, rows[0][1] if rows else "", ""


def _on_bus() -> bool:
    """Whether an NVIDIA device is on the PCI bus."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == _VENDOR and kind.startswith(_DISPLAY_CLASSES):
            return True
    return False


def probe_libraries() -> dict[str, Any]:
    """In a subprocess: load the driver's library and those of CUDA that are there."""
    windows = platform.system() == "Windows"
    answer: dict[str, Any] = {"driver_cuda": "", "driver_problem": "", "libraries": []}
    try:
        driver = ctypes.CDLL("nvcuda.dll" if windows else "libcuda.so.1")
        number = ctypes.c_int()
        if driver.cuDriverGetVersion(ctypes.byref(number)) == 0:
            answer["driver_cuda"] = _pair(number.value)
        code = driver.cuInit(0)
        if code != 0:
            answer["driver_problem"] = (
                f"the driver's library is there but does not start (cuInit gives {code})"
            )
    except (OSError, AttributeError) as error:
        answer["driver_problem"] = f"the driver's library cannot be loaded: {error}"
    places = [Path(sysconfig.get_path(key)) / "nvidia" for key in ("purelib", "platlib")]
    files = {
        file.name: file
        for place in dict.fromkeys(places)
        for file in place.glob("*/bin/**/*.dll" if windows else "*/lib/*.so*")
    }
    for name, versions in _NAMES.items():
        for version in versions:
            wanted = f"{name}64_{version.replace('.', '')}.dll" if windows else f"lib{name}.so.{version}"
            library = _load(name, wanted, files.get(wanted))
            if library is not None:
                answer["libraries"].append(library)
                break
    return answer


def _load(name: str, wanted: str, packaged: Path | None) -> dict[str, str] | None:
    for file, origin in ((packaged, "pip"), (Path(wanted), "system")):
        if file is None:
            continue
        try:
            library = ctypes.CDLL(str(file))
        except OSError:
            continue
        return {"name": name, "file": str(file), "origin": origin, "version": _version(name, library)}
    return None


def _version(name: str, library: Any) -> str:
    """By the library's own function, where it has one that needs no device."""
    number = ctypes.c_int()
    if name == "cudart" and library.cudaRuntimeGetVersion(ctypes.byref(number)) == 0:
        return _pair(number.value)
    if name == "cudnn":
        library.cudnnGetVersion.restype = ctypes.c_size_t
        found = int(library.cudnnGetVersion())
        # 90501 is 9.5.1, and 8907 was 8.9.7.
        major, rest = divmod(found, 10000 if found >= 90000 else 1000)
        return f"{major}.{rest // 100}.{rest % 100}"
    return ""


def _pair(number: int) -> str:
    """12040 is 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"
