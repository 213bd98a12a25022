"""What is known of each device: its execution provider, its package, and why it does not load.

Nothing here imports onnxruntime: `salgan_edge.session` does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shlex
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from salgan_edge.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from importlib.metadata import Distribution

__all__ = [
    "CPU_PROVIDER",
    "DEVICES",
    "DEVICE_NAMES",
    "REQUIREMENTS",
    "SYSTEMS",
    "Device",
    "DeviceKind",
    "Execution",
    "cache_folder",
    "installed_packages",
    "loading_problem",
    "packages_in",
    "parse_options",
    "repair",
]

Device = str
"""A name of `DEVICES`, or ``auto``. A name that is neither is refused when an `Execution` is made."""

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
SYSTEMS = {"darwin": "macOS", "win32": "Windows"}
"""Names of the systems that a device may be bound to, by ``sys.platform``."""


@dataclass(frozen=True)
class DeviceKind:
    """A kind of device that graphs can run on."""

    provider: str
    """onnxruntime's name of its execution provider."""
    package: str
    """Distribution that brings the provider."""
    extra: str
    """Extra of salgan-edge that installs the distribution."""
    requirement: str = ""
    """What pip is told to install from anywhere; the distribution's name where empty."""
    beside: tuple[str, ...] = ()
    """Providers on the same hardware that take the operators which this one does not know."""
    library: str = ""
    """Stem of the shared library that onnxruntime loads for it; empty where it is built in."""
    packaged: str = ""
    """Python package of the libraries that this one needs in turn, where no loader searches it."""
    platform: str = ""
    """``sys.platform`` that it needs; empty for any."""
    numbered: bool = False
    """The provider's option ``device_id`` is a number."""
    memory: str = ""
    """onnxruntime's name of the device's memory, where inputs and outputs are kept there between runs."""
    graph_option: str = ""
    """The provider's option that captures a run as a CUDA graph."""
    engine_cache: bool = False
    """It builds engines for minutes, and takes the ``trt_`` options that say where they are kept."""
    sequential: bool = False
    """It needs operators run one after the other, and no planned memory."""


_GPU = "onnxruntime-gpu[cuda,cudnn]"

# The one place that names devices: a further row is in the API, the command line, `doctor` and the benchmark.
DEVICES: dict[str, DeviceKind] = {
    "cpu": DeviceKind(CPU_PROVIDER, "onnxruntime", "cpu"),
    "cuda": DeviceKind(
        CUDA_PROVIDER,
        "onnxruntime-gpu",
        "gpu",
        _GPU,
        library="onnxruntime_providers_cuda",
        numbered=True,
        memory="cuda",
        graph_option="enable_cuda_graph",
    ),
    "tensorrt": DeviceKind(
        "TensorrtExecutionProvider",
        "onnxruntime-gpu",
        "gpu",
        _GPU,
        beside=(CUDA_PROVIDER,),
        library="onnxruntime_providers_tensorrt",
        packaged="tensorrt_libs",
        numbered=True,
        memory="cuda",
        graph_option="trt_cuda_graph_enable",
        engine_cache=True,
    ),
    "openvino": DeviceKind(
        "OpenVINOExecutionProvider",
        "onnxruntime-openvino",
        "openvino",
        library="onnxruntime_providers_openvino",
    ),
    "coreml": DeviceKind("CoreMLExecutionProvider", "onnxruntime", "cpu", platform="darwin"),
    "directml": DeviceKind(
        "DmlExecutionProvider",
        "onnxruntime-directml",
        "directml",
        platform="win32",
        numbered=True,
        sequential=True,
    ),
}
"""Every device that can be asked for by name."""

DEVICE_NAMES = ("auto", *DEVICES)
"""What a user may ask for."""

REQUIREMENTS = {kind.extra: kind.requirement or kind.package for kind in DEVICES.values()}
"""What each extra of salgan-edge brings, to be named where a command has to work from anywhere."""


@dataclass(frozen=True)
class Execution:
    """How a graph is run."""

    device: Device = "auto"
    """A name of `DEVICES`, which is then used or refused; ``auto`` for CUDA where it works, else the CPU."""
    threads: int | None = None
    """CPU threads of one operator; all allowed CPUs where None."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of the device's execution provider, by onnxruntime's names (``device_id``, ...)."""
    strict: bool = False
    """Refuse rather than run anything on the CPU: neither `auto` nor single operators fall back."""
    spinning: bool = True
    """Whether waiting threads keep their core busy: a little faster, and a core lost to all others."""
    cuda_graph: bool = False
    """Capture each input shape's run once and replay it; used where every operator is on the GPU."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            DeviceError: an unknown device, no threads, options of a provider without its device, or a GPU's
                number that is none.
        """
        if self.device not in DEVICE_NAMES:
            raise DeviceError(f"device {self.device!r} is unknown: {', '.join(DEVICE_NAMES)} were expected")
        if self.threads is not None and self.threads < 1:
            raise DeviceError(f"threads is {self.threads}: 1 or more were expected, or None for all allowed")
        if self.options and self.device in ("auto", "cpu"):
            raise DeviceError(
                f"options of an execution provider ({', '.join(self.options)}) fit no device {self.device!r}: "
                f"name the device too, such as {', '.join(name for name in DEVICES if name != 'cpu')}"
            )
        number = str(self.options.get("device_id", "0"))
        if (
            self.device != "auto"
            and DEVICES[self.device].numbered
            and not (number.isascii() and number.isdecimal())
        ):
            raise DeviceError(f"device_id is {number!r}: the number of a device was expected, the first is 0")


def parse_options(words: Iterable[str]) -> dict[str, str]:
    """Options written as ``KEY=VALUE``.

    >>> parse_options(["device_id=1"])
    {'device_id': '1'}

    Raises:
        DeviceError: a word has no ``=``, no key, or a key occurs twice.
    """
    options: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise DeviceError(f"{word!r} is no option of a provider: KEY=VALUE was expected")
        if key.strip() in options:
            raise DeviceError(f"the option {key.strip()} of the provider was given twice")
        options[key.strip()] = value.strip()
    return options


def installed_packages() -> dict[str, str]:
    """Versions of the installed onnxruntime packages; more than one overwrite each other's files.

    Packages that stand beside onnxruntime (onnxruntime-extensions, onnxruntime-genai) are none.
    """
    return packages_in("onnxruntime", ("onnxruntime", "ort-"))


def packages_in(folder: str, beginnings: tuple[str, ...]) -> dict[str, str]:
    """Versions of the installed packages that have files in a folder, by name.

    Args:
        folder: of the Python package, such as ``cv2``.
        beginnings: of the names of the packages that are asked.
    """
    from importlib import metadata  # noqa: PLC0415 - 0.01 s that `--help` need not pay

    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name, version = _name_and_version(distribution)
        if name.startswith(beginnings) and _fills(distribution, folder):
            # The first on the path is the one that is imported.
            found.setdefault(name, version)
    return dict(sorted(found.items()))


def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    """Of a package; the name is empty where a damaged installation lacks it."""
    try:
        described = distribution.metadata
        # `get` is not promised by its type, and a key that is not there shall become an error.
        name, version = (described[key] if key in described else "" for key in ("Name", "Version"))  # noqa: SIM401
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is no concern of this package
        return "", ""
    return re.sub(r"[-_.]+", "-", str(name or "")).lower(), str(version or "of unknown version")


def _fills(distribution: Distribution, folder: str) -> bool:
    """Whether a package's files lie in a folder; taken for granted without a list of them."""
    try:
        content = distribution.read_text("RECORD")
    except (OSError, UnicodeDecodeError):
        return True
    return content is None or any(line.startswith(f"{folder}/") for line in content.splitlines())


def repair(extra: str) -> str:
    """The command that leaves one onnxruntime package, the one of the extra."""
    wanted = {kind.extra: kind.package for kind in DEVICES.values()}[extra]
    others = [name for name in installed_packages() if name != wanted]
    both = len(others) > 0 and wanted in installed_packages()
    install = f"pip install {shlex.quote(REQUIREMENTS[extra])}"
    removed = [*others, wanted] if both else others
    return f"pip uninstall -y {' '.join(removed)} && {install}" if removed else install


def cache_folder() -> Path:
    """Where things that can be made again are kept; ``SALGAN_EDGE_CACHE`` sets another place."""
    if named := os.environ.get("SALGAN_EDGE_CACHE"):
        return Path(named)
    from platformdirs import user_cache_path  # noqa: PLC0415 - for TensorRT only

    return user_cache_path("salgan-edge", appauthor=False, opinion=False)


def loading_problem(device: str) -> str | None:
    """Why the shared library of a device's provider does not load, and what to do; None if it does.

    onnxruntime says so in its log only, and goes on with the CPU. It must have been imported before: its
    import sets what these libraries look for as they load.
    """
    assert "onnxruntime" in sys.modules, "import onnxruntime first"
    kind = DEVICES[device]
    spec = find_spec("onnxruntime") if kind.library else None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "capi"
    prefix, suffix = {"win32": ("", ".dll"), "darwin": ("lib", ".dylib")}.get(sys.platform, ("lib", ".so"))
    _preload(kind.packaged, suffix)
    for stem in ("onnxruntime_providers_shared", kind.library):
        library = folder / f"{prefix}{stem}{suffix}"
        if not library.is_file():
            continue  # built into onnxruntime itself, or not there: the list of providers tells
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            return _advice(str(error))
    return None


def _preload(package: str, suffix: str) -> None:
    """Load TensorRT's libraries from their Python package, whose folder no loader searches."""
    spec = find_spec(package) if package else None
    if spec is None or not spec.submodule_search_locations:
        return
    folder = Path(next(iter(spec.submodule_search_locations)))
    for pattern in ("*nvinfer", "*nvinfer_plugin", "*nvonnxparser"):
        for library in sorted(folder.glob(f"{pattern}{suffix}*")):
            with contextlib.suppress(OSError):
                # RTLD_GLOBAL (0 on Windows, where it has no meaning): the provider's symbols lie there.
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def _advice(message: str) -> str:
    """One line about a library that is missing or too old."""
    first = message.splitlines()[0] if message else "unknown reason"
    found = re.match(r"(\S+?): cannot open shared object file", first)
    name = Path(found[1]).name if found else ""
    if name.startswith(("libcuda.so", "libnvidia")):
        return f"{name} is missing: it comes with the NVIDIA driver, install that (nvidia-smi must work)"
    if name.startswith("libcudnn"):
        return f"{name} is missing: it is cuDNN's, pip install 'onnxruntime-gpu[cuda,cudnn]'"
    if name.startswith(("libnvinfer", "libnvonnxparser")):
        return f"{name} is missing: it is TensorRT's, pip install 'tensorrt-cu13<11', or take --device cuda"
    if name.startswith(("libcu", "libnv")):
        return f"{name} is missing: it is CUDA's, pip install 'onnxruntime-gpu[cuda,cudnn]'"
    return f"{name} is missing" if name else first
