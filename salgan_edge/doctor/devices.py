"""Devices: which are possible here and which really compute; and NVIDIA's driver and libraries, which most depend on."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salgan_edge.devices import DEVICES, Execution
from salgan_edge.doctor.probe import ask, run_limited

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "TINY_GRAPH",
    "TINY_X",
    "TINY_Z",
    "Cuda",
    "DeviceFacts",
    "Gpu",
    "Library",
    "gather_cuda",
    "gather_devices",
    "probe_device",
    "probe_libraries",
]

TINY_X = ((1, -2, 3), (0, 4, -1), (2, -9, -3))
"""What is put in, float32 (1, 1, 3, 3)."""

TINY_Z = ((6, 10, 8), (0, 0, 0), (0, 0, 0))
"""What must come out. Small whole numbers are exact in every precision, TF32 and fp16 too."""

TINY_GRAPH = bytes.fromhex(
    "08083aca010a220a01780a01771201632204436f6e762a110a04706164734001400140014001a001070a100a"
    "01630a0374776f12016d22034d756c0a0c0a016d12017a220452656c75120474696e792a3308010801080308"
    "0310014201774a240000803f0000803f0000803f0000803f0000803f0000803f0000803f0000803f0000803f"
    "2a0f08011001420374776f4a04000000405a1b0a017812160a14080112100a0208010a0208010a0208030a02"
    "0803621b0a017a12160a14080112100a0208010a0208010a0208030a02080342040a001012"
)
"""z = Relu(Conv(x, ones of 3x3) * 2), opset 18: a convolution, which needs cuDNN on CUDA, and two other operators."""


@dataclass(frozen=True)
class DeviceFacts:
    """One device that the product knows."""

    name: str = "cpu"
    provider: str = ""
    package: str = ""
    """Distribution that brings the provider."""
    extra: str = ""
    """Extra of salgan-edge that brings the distribution."""
    possible: bool = True
    """There are such devices for this operating system."""
    listed: bool = False
    """The installed onnxruntime has the provider; that does not mean that it works."""
    tried: bool = False
    works: bool = False
    problem: str = ""
    """Why it does not work, in a line."""
    stderr: tuple[str, ...] = ()
    operators: dict[str, int] = field(default_factory=dict)
    """Which provider ran how many operators of the tiny graph."""
    milliseconds: float | None = None
    """To load the tiny graph and run it for the first time."""


def gather_devices(
    providers: Sequence[str], timeout: float, *, only: str | None = None, usable: bool = True
) -> tuple[DeviceFacts, ...]:
    """Try every device that onnxruntime has a provider for, each in its own subprocess.

    Args:
        providers: that the installed onnxruntime lists.
        timeout: seconds for each.
        only: try just this one, even where its provider is not listed.
        usable: onnxruntime can be imported; where not, nothing is tried.
    """
    found = []
    for name, kind in DEVICES.items():
        if only not in (None, name):
            continue
        facts: dict[str, Any] = {
            "name": name,
            "provider": kind.provider,
            "package": kind.package,
            "extra": kind.extra,
            "possible": kind.platform in ("", sys.platform),
            "listed": kind.provider in providers,
        }
        if usable and (kind.provider in providers or only == name):
            answer = ask(name, timeout=timeout)
            facts |= {
                "tried": True,
                "works": not answer.problem,
                "problem": answer.problem,
                "stderr": answer.stderr,
                "operators": answer.values.get("operators", {}),
                "milliseconds": answer.values.get("milliseconds"),
            }
        found.append(DeviceFacts(**facts))
    return tuple(found)


def probe_device(name: str) -> dict[str, Any]:
    """In a subprocess: run the tiny graph on a device and look at the result.

    Args:
        name: of the device.

    Raises:
        SalganEdgeError: it cannot be used.
        ArithmeticError: it computes something else.
    """
    import numpy as np  # noqa: PLC0415

    from salgan_edge.session import GraphSession  # noqa: PLC0415

    started = time.perf_counter()
    execution = Execution(name)
    session = GraphSession(TINY_GRAPH, execution, traced=True, name="a tiny graph")
    inputs = {"x": np.asarray(TINY_X, np.float32)[None, None]}
    found = session.run("z", inputs)
    milliseconds = 1000 * (time.perf_counter() - started)
    expected = np.asarray(TINY_Z, np.float32)[None, None]
    if found.shape != expected.shape or not np.allclose(found, expected, atol=0.05):
        raise ArithmeticError(
            f"it computes {np.asarray(found).ravel().tolist()} where {expected.ravel().tolist()} was expected"
        )
    if session.device != name:
        raise RuntimeError(f"the graph ran on {session.device} instead")
    return {"operators": session.node_providers(inputs).nodes, "milliseconds": round(milliseconds, 1)}


# NVIDIA

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
