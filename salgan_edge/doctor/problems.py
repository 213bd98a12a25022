"""From facts to what is wrong and the commands that fix it: pure functions of `Facts`, the plan of all of them first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from salgan_edge.devices import DEVICES, REQUIREMENTS, SYSTEMS
from salgan_edge.doctor.system import version_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from salgan_edge.doctor.devices import DeviceFacts
    from salgan_edge.doctor.examine import Facts
    from salgan_edge.doctor.system import Imported
    from salgan_edge.doctor.vision import Camera

__all__ = ["Plan", "Problem", "Severity", "make_plan"]

_ORDER = ("error", "warning", "note")

Severity = Literal["error", "warning", "note"]
"""``error``: the main job would not run. ``warning``: something asked for or present does not work."""


@dataclass(frozen=True)
class Problem:
    """One thing to fix, or to know."""

    severity: Severity
    part: str
    """Which row of the report it belongs to: ``package numpy``, ``device cuda``, ``camera 0``..."""
    what: str
    """What was found and what it means, in a line."""
    commands: tuple[str, ...] = ()
    """What to type, in this order; words in capitals stand for the user's own."""


@dataclass(frozen=True)
class Plan:
    """Problems, the gravest first."""

    problems: tuple[Problem, ...]
    next: str
    """What to type when nothing keeps the main job from running."""

    @property
    def ready(self) -> bool:
        """The main job would run: an image is predicted on the default device, or on the one asked for."""
        return all(problem.severity != "error" for problem in self.problems)


def make_plan(facts: Facts) -> Plan:
    """Problems of the facts, each with the commands that fix it.

    Args:
        facts: of a machine, this one or a made-up one.
    """
    problems = [*software_problems(facts), *device_problems(facts), *video_problems(facts)]
    problems += _untold(facts, problems)
    problems += _managed(facts, problems)
    problems.sort(key=lambda problem: _ORDER.index(problem.severity))
    return Plan(tuple(problems), _next(facts))


def _untold(facts: Facts, problems: list[Problem]) -> Iterator[Problem]:
    """What failed in the examination itself, and a main job that no problem accounts for."""
    for part, reason in facts.failures.items():
        what = f"the part {part} of this examination failed ({reason}): please report it"
        yield Problem("note", "examination", what, ("salgan-edge doctor --json",))
    if not facts.bundle.tried and not any(problem.severity == "error" for problem in problems):
        what = "the bundle was not tried, so that nothing is known of predictions"
        yield Problem("error", "bundle", what, ("salgan-edge --debug verify",))


def _managed(facts: Facts, problems: list[Problem]) -> Iterator[Problem]:
    """Where pip refuses, its commands need an environment of one's own first."""
    pip = facts.python.pip
    wanted = any(command.startswith(pip) for problem in problems for command in problem.commands)
    if facts.python.externally_managed and wanted:
        what = "pip refuses to install into this system's own Python: make an environment first, then go on in it"
        commands = (
            "python3 -m venv ~/salgan-edge",
            ". ~/salgan-edge/bin/activate",
            f"pip install 'salgan-edge[{extra_for(facts)}]'",
        )
        yield Problem("note", "python", what, commands)


def _next(facts: Facts) -> str:
    bundle = "" if facts.bundle.bundle == "embedded" else f" --bundle {quoted(facts, facts.bundle.bundle)}"
    device = f" --device {facts.asked.device}" if facts.asked.device else ""
    return f'salgan-edge predict IMAGE "a red ball"{bundle}{device}'


# Commands


def quoted(facts: Facts, word: str) -> str:
    """A word as this system's shell takes it whole: Windows knows no single quotes."""
    if re.fullmatch(r"[\w.~/:\\-]+" if facts.system.kind == "Windows" else r"[\w.~/:-]+", word):
        return word
    return f'"{word}"' if facts.system.kind == "Windows" else f"'{word}'"


def pip_install(facts: Facts, *words: str) -> str:
    """The command that installs into this Python."""
    python = facts.python
    before = f"{python.pip.removesuffix(' -m pip')} -m ensurepip && " if python.pip_missing else ""
    return f"{before}{python.pip} install {' '.join(quoted(facts, word) for word in words)}"


def pip_uninstall(facts: Facts, packages: Iterable[str]) -> str:
    """The command that uninstalls from this Python without a question."""
    pip = facts.python.pip
    # uv never asks, and does not know the option.
    return f"{pip} uninstall {'' if pip.startswith('uv') else '-y '}{' '.join(packages)}"


def apt_install(facts: Facts, *packages: str) -> tuple[str, ...]:
    """The command that installs Debian's packages; nothing on other systems, whose names differ."""
    if facts.system.manager != "apt-get" or not packages:
        return ()
    if facts.system.container:
        return (f"apt-get update && apt-get install -y {' '.join(packages)}",)
    return (f"sudo apt-get install -y {' '.join(packages)}",)


# Python, the system and the packages

_LOW_MEMORY = 400 * 2**20
"""Bytes that the default bundle with its packages needs, and some more."""

_DEBIAN = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libXext.so.6": "libxext6",
    "libXrender.so.1": "libxrender1",
    "libX11.so.6": "libx11-6",
    "libxcb.so.1": "libxcb1",
    "libgomp.so.1": "libgomp1",
    "libstdc++.so.6": "libstdc++6",
    "libopenblas.so.0": "libopenblas0",
    "libatomic.so.1": "libatomic1",
}
"""Debian's packages of the libraries that slim images lack."""


def software_problems(facts: Facts) -> Iterator[Problem]:
    """Problems of everything that is no device."""
    yield from _python(facts)
    yield from _onnxruntimes(facts)
    yield from _opencvs(facts)
    yield from _imports(facts)
    yield from _old(facts)
    yield from _memory(facts)


def _python(facts: Facts) -> Iterator[Problem]:
    python, system = facts.python, facts.system
    if python.bits == 32:
        what = "this Python is of 32 bit, for which there is no onnxruntime: install a 64-bit Python (and system)"
        yield Problem("error", "python", what)
    if system.libc == "musl":
        what = (
            "this system has the C library musl (Alpine), for which onnxruntime has no packages: "
            "use an image with glibc"
        )
        yield Problem("error", "system", what, ("docker run -it python:3.12-slim bash",))
    if python.translated:
        what = "this Python is for Intel and runs translated on an Apple chip, several times slower: use one for arm64"
        commands = ("brew install python@3.12",) if system.manager == "brew" else ()
        yield Problem("warning", "python", what, commands)
    if python.implementation != "CPython":
        yield Problem("warning", "python", f"{python.implementation} is not tested: use CPython")


def extra_for(facts: Facts) -> str:
    """The extra of salgan-edge that fits: of the device asked for, else of the hardware that is there."""
    if facts.asked.device in DEVICES:
        return DEVICES[str(facts.asked.device)].extra
    return "gpu" if facts.cuda.present and facts.system.kind != "Darwin" else "cpu"


def _kept(facts: Facts) -> str:
    """The extra to keep where several packages of onnxruntime are installed.

    Someone put a special one there on purpose, while the plain one often comes with another package.
    """
    if facts.asked.device is not None:
        return extra_for(facts)
    for kind in DEVICES.values():
        if kind.package == "onnxruntime" or kind.package not in facts.packages.onnxruntime:
            continue
        if kind.extra != "gpu" or facts.cuda.present:
            return kind.extra
    return extra_for(facts)


def _onnxruntimes(facts: Facts) -> Iterator[Problem]:
    """Several packages in one folder."""
    packages = facts.packages
    if len(packages.onnxruntime) < 2:
        return
    names = list(packages.onnxruntime)
    broken = bool(packages.imports.get("onnxruntime") and packages.imports["onnxruntime"].problem)
    users = {user for name in names for user in packages.wanted_by.get(name, ())}
    what = f"{_and(names)} are installed together and overwrite each other's files: only one may stay"
    if users:
        what += f" ({_and(sorted(users))} brought one of them, and may do so again)"
    commands = (
        pip_uninstall(facts, names),
        pip_install(facts, REQUIREMENTS[_kept(facts)]),
    )
    yield Problem("error" if broken else "warning", "package onnxruntime", what, commands)


def _opencvs(facts: Facts) -> Iterator[Problem]:
    packages = facts.packages
    if len(packages.opencv) < 2:
        return
    names = list(packages.opencv)
    broken = bool(packages.imports.get("opencv") and packages.imports["opencv"].problem)
    what = f"{_and(names)} are installed together and overwrite each other's files: windows or video may be missing"
    commands = (pip_uninstall(facts, names), pip_install(facts, _opencv(facts)))
    yield Problem("error" if broken else "warning", "package opencv", what, commands)


def _opencv(facts: Facts) -> str:
    """What to install of OpenCV."""
    return f"opencv-python>={facts.packages.required.get('opencv-python', '4.9')}"


def _imports(facts: Facts) -> Iterator[Problem]:
    """Packages that cannot be imported."""
    packages = facts.packages
    several = {
        name
        for name, family in (("onnxruntime", packages.onnxruntime), ("opencv", packages.opencv))
        if len(family) > 1
    }
    for name, imported in packages.imports.items():
        if not imported.problem or name in several:
            continue
        yield Problem("error", f"package {name}", *_import_problem(facts, name, imported))
        if name == "numpy":
            # The others import numpy, and fail with it.
            return


def _import_problem(facts: Facts, name: str, imported: Imported) -> tuple[str, tuple[str, ...]]:
    """What keeps a package from being imported, and what fixes it."""
    packages = facts.packages
    lowest = packages.required.get(name)
    family = {name: packages.installed[name]} if name in packages.installed else {}
    wanted = f"{name}>={lowest}" if lowest else name
    if name == "opencv":
        family, wanted = packages.opencv, _opencv(facts)
    elif name == "onnxruntime":
        family, wanted = packages.onnxruntime, REQUIREMENTS[extra_for(facts)]
    if not family:
        return f"{name} is not installed", (pip_install(facts, wanted),)
    what = f"{name} cannot be imported: {imported.problem}"
    library = re.search(r"(lib[\w.+-]+?\.so[.\d]*): cannot open shared object", imported.problem)
    if library:
        return _missing_library(facts, name, library[1])
    if "DLL load failed" in imported.problem:
        what += "; the Visual C++ runtime is missing or too old"
        return what, ("winget install Microsoft.VCRedist.2015+.x64",)
    if re.search(r"NumPy 1\.x|numpy\.core\.multiarray|_ARRAY_API", imported.problem):
        return f"{what}; it was built for another numpy", (pip_install(facts, "--upgrade", *family, "numpy"),)
    if "it hangs" in imported.problem:
        return what, ("salgan-edge doctor --timeout 120",)
    return what, (pip_install(facts, "--force-reinstall", "--no-deps", *family),)


def _missing_library(facts: Facts, name: str, library: str) -> tuple[str, tuple[str, ...]]:
    """A shared library of the system is missing."""
    what = f"{name} cannot be imported: the system's library {library} is missing"
    debian = _DEBIAN.get(library)
    commands = apt_install(facts, debian) if debian else ()
    if name == "opencv" and not commands:
        # The package without windows needs none of their libraries.
        commands = (
            pip_uninstall(facts, facts.packages.opencv),
            pip_install(facts, "opencv-python-headless"),
        )
        what += "; OpenCV without windows does not need it"
    return what, commands


def reinstall_onnxruntime(facts: Facts) -> tuple[str, ...]:
    """Commands that put the installed onnxruntime there anew."""
    family = facts.packages.onnxruntime or {DEVICES["cpu"].package: ""}
    return (pip_install(facts, "--force-reinstall", "--no-deps", *family),)


def _old(facts: Facts) -> Iterator[Problem]:
    for name, lowest in facts.packages.required.items():
        found = facts.packages.installed.get(name)
        if found and version_key(found) < version_key(lowest):
            what = f"{name} {found} is installed, {lowest} or newer is needed"
            part = "package opencv" if name == "opencv-python" else f"package {name}"
            yield Problem("warning", part, what, (pip_install(facts, "--upgrade", f"{name}>={lowest}"),))


def _memory(facts: Facts) -> Iterator[Problem]:
    processor = facts.processor
    free = [size for size in (processor.memory_free, processor.memory_limit) if size is not None]
    if free and min(free) < _LOW_MEMORY:
        what = f"{min(free) / 1e6:.0f} MB of memory are free, about {_LOW_MEMORY / 1e6:.0f} are needed: close other programs"
        yield Problem("warning", "memory", what)


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# Devices and the bundle

_ON_CPU = "salgan-edge predict IMAGE TEXT --device cpu"
_JETSON_WITH_PIP = 38
"""Since this release of Jetson Linux (JetPack 7, CUDA 13) the packages for other ARM machines fit."""
_NVIDIA = tuple(name for name, kind in DEVICES.items() if kind.memory == "cuda")


def device_problems(facts: Facts) -> Iterator[Problem]:
    """Problems of devices, then those of the bundle that they do not explain."""
    runtime = facts.packages.imports.get("onnxruntime")
    if runtime is None or runtime.problem:
        return
    for device in facts.devices:
        yield from _device(facts, device)
    yield from _bundle(facts)


def _device(facts: Facts, device: DeviceFacts) -> Iterator[Problem]:
    part = f"device {device.name}"
    if facts.asked.device == device.name:
        if not device.works:
            yield Problem("error", part, *_explained(facts, device))
    elif device.name == "cpu":
        if not device.works:
            what = f"onnxruntime does not compute on the CPU: {device.problem}"
            yield Problem("error", part, what, reinstall_onnxruntime(facts))
    elif device.listed and not device.works:
        yield from _listed(facts, device, part)
    elif (
        device.name == "cuda"
        and not device.listed
        and facts.cuda.present
        and len(facts.packages.onnxruntime) < 2  # else that is the cause, and told
    ):
        what = (
            "there is an NVIDIA device, but the installed onnxruntime has no CUDA: predictions run on the CPU"
        )
        yield Problem("warning", part, what, _install(facts, device))
    if (
        device.works
        and device.operators
        and set(device.operators) == {DEVICES["cpu"].provider} != {device.provider}
    ):
        what = f"{device.name} can be used but ran nothing of a tiny graph itself, the CPU ran all of it"
        yield Problem("warning", part, what)


def _listed(facts: Facts, device: DeviceFacts, part: str) -> Iterator[Problem]:
    """A device that the package has and nobody asked for does not work."""
    what, commands = _explained(facts, device)
    if device.name == "tensorrt":
        # Its provider comes with every onnxruntime-gpu, TensorRT itself seldom.
        cuda = facts.device("cuda")
        if cuda is None or cuda.works:
            yield Problem("note", part, f"{what} (TensorRT is optional)", commands)
    elif device.name == "cuda" and not facts.cuda.present and not facts.system.container:
        what = (
            "onnxruntime-gpu is installed, but there is no NVIDIA device that this process sees: predictions "
            "run on the CPU"
        )
        commands = (
            pip_uninstall(facts, facts.packages.onnxruntime or ("onnxruntime-gpu",)),
            pip_install(facts, REQUIREMENTS["cpu"]),
        )
        yield Problem("warning", part, what, commands)
    else:
        yield Problem("warning", part, what, commands)


def _explained(facts: Facts, device: DeviceFacts) -> tuple[str, tuple[str, ...]]:
    """Why a device does not work, the cause that is nearest to the hardware, and what fixes that."""
    asked = " was asked for but" if facts.asked.device == device.name else ""
    start = f"{device.name}{asked} cannot be used: "
    if not device.possible:
        return f"{start}it is for {SYSTEMS[DEVICES[device.name].platform]} only", (_ON_CPU,)
    if not device.listed:
        installed = ", ".join(facts.packages.onnxruntime) or "onnxruntime"
        what = f"{start}the installed {installed} does not have it"
        if device.name in _NVIDIA and not facts.cuda.present:
            what += ", and there is no NVIDIA device that this process sees"
        return what, _install(facts, device)
    hardware = _hardware(facts) if device.name in _NVIDIA else None
    if hardware is not None:
        return f"{start}{hardware[0]}", hardware[1]
    # The commands that follow say how to fix it.
    reason = re.sub(rf"^{device.name} (is not usable|cannot run [^:]+): ", "", device.problem)
    return start + reason.removesuffix("; or use --device cpu"), _software(facts, device)


def _hardware(facts: Facts) -> tuple[str, tuple[str, ...]] | None:
    """What is wrong with NVIDIA's device or driver, and what fixes it; None where the libraries are at fault."""
    cuda, system = facts.cuda, facts.system
    if system.settings.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        command = "set CUDA_VISIBLE_DEVICES=" if system.kind == "Windows" else "unset CUDA_VISIBLE_DEVICES"
        return "CUDA_VISIBLE_DEVICES hides every device", (command,)
    if cuda.unreadable:
        what = f"this user may not open {', '.join(cuda.unreadable)}"
        return what, ('sudo usermod -aG video,render "$USER"', "sudo reboot")
    if not cuda.present:
        what = "there is no NVIDIA device that this process sees"
        return what, ("docker run --gpus all IMAGE",) if system.container else (_ON_CPU,)
    if not cuda.gpus and not cuda.driver_cuda:
        why = f" ({cuda.driver_problem})" if cuda.driver_problem else ""
        return f"there is an NVIDIA device, but no driver that works{why}", _driver(facts)
    needed = _needed_cuda(facts)
    if needed and cuda.driver_cuda and _major(cuda.driver_cuda) < _major(needed):
        driver = f"the driver {cuda.driver}".strip()
        what = f"{driver} runs CUDA {cuda.driver_cuda} at most, this onnxruntime needs {needed}"
        return what, _driver(facts)
    return None


def _driver(facts: Facts) -> tuple[str, ...]:
    """Commands that bring NVIDIA's newest driver."""
    system = facts.system
    if system.wsl:
        return ("wsl.exe --update",)
    if system.container:
        # The host's driver is used.
        return ("docker run --gpus all IMAGE",)
    if "Ubuntu" in system.name:
        return ("sudo ubuntu-drivers install", "sudo reboot")
    if system.manager == "apt-get":
        return ("sudo apt-get install -y nvidia-driver", "sudo reboot")
    return ("nvidia-smi",)


def _software(facts: Facts, device: DeviceFacts) -> tuple[str, ...]:
    """Commands that fix a device whose hardware is there."""
    if "it hangs" in device.problem:
        return (f"salgan-edge doctor --device {device.name} --timeout 180",)
    if device.name == "tensorrt":
        return (pip_install(facts, "tensorrt-cu13"),)
    if device.name == "cuda" and re.search(r"lib(cu|nv)\w*|\bDLL\b", device.problem):
        if any(name.startswith("nvidia-") for name in facts.packages.installed):
            return (pip_install(facts, "--force-reinstall", "onnxruntime-gpu[cuda,cudnn]"),)
        return _install(facts, device)
    return (pip_install(facts, "--upgrade", device.package), _ON_CPU)


def _needed_cuda(facts: Facts) -> str:
    """CUDA that the installed onnxruntime was built with; empty where it does not say."""
    runtime = facts.packages.imports.get("onnxruntime")
    return str(runtime.details.get("cuda") or "") if runtime else ""


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0


def _install(facts: Facts, device: DeviceFacts) -> tuple[str, ...]:
    """Commands that exchange the installed onnxruntime for the device's."""
    others = [name for name in facts.packages.onnxruntime if name != device.package]
    uninstall = (pip_uninstall(facts, others),) if others else ()
    if device.name in _NVIDIA and facts.system.jetson and _jetson(facts) < _JETSON_WITH_PIP:
        # The general package is built for a newer CUDA than these boards can have.
        index = "--extra-index-url INDEX_OF_NVIDIA_FOR_YOUR_JETPACK"
        return (*uninstall, f"{pip_install(facts, 'onnxruntime-gpu')} {index}")
    return (*uninstall, pip_install(facts, REQUIREMENTS[device.extra]))


def _jetson(facts: Facts) -> int:
    """Release of Jetson Linux: 36 of ``# R36 (release), REVISION: 4.3``."""
    found = re.search(r"R(\d+)", facts.system.jetson)
    return int(found[1]) if found else 0


def _bundle(facts: Facts) -> Iterator[Problem]:
    bundle = facts.bundle
    if not bundle.tried or bundle.works:
        return
    asked = facts.device(bundle.asked_device)
    if asked is not None and not asked.works and not bundle.damaged:
        return  # said already
    if bundle.damaged and bundle.bundle == "embedded":
        what = f"the bundle in the package is damaged: {bundle.problem}"
        commands = (pip_install(facts, "--force-reinstall", "--no-deps", "salgan-edge"),)
    elif bundle.damaged:
        what = f"the bundle {bundle.bundle} cannot be used: {bundle.problem}"
        commands = (f"salgan-edge verify {quoted(facts, bundle.bundle)}",)
    else:
        what = f"a prediction fails: {bundle.problem}"
        verify = "" if bundle.bundle == "embedded" else f" {quoted(facts, bundle.bundle)}"
        commands = (_ON_CPU,) if bundle.cpu_instead else (f"salgan-edge --debug verify{verify}",)
    yield Problem("error", "bundle", what, commands)


# Windows and cameras

_QT_LIBRARIES = (
    "libxkbcommon-x11-0",
    "libxcb-icccm4",
    "libxcb-image0",
    "libxcb-keysyms1",
    "libxcb-render-util0",
)
"""Debian's packages of what Qt's window plug-in loads and slim systems lack."""


def video_problems(facts: Facts) -> Iterator[Problem]:
    """Problems of windows and cameras; none of them keeps an image from being predicted."""
    vision = facts.packages.imports.get("opencv")
    if vision is not None and not vision.problem:
        yield from _window(facts)
    if facts.cameras.looked:
        for camera in facts.cameras.found:
            yield from _camera(facts, camera)


def _window(facts: Facts) -> Iterator[Problem]:
    display, gui = facts.display, facts.opencv.gui
    if display.works:
        return
    if not display.expected:
        why = "this is a session over SSH" if display.ssh else "no display is set (DISPLAY)"
        what = f"{why}: no window can be opened here; everything else can be done"
        if display.ssh and facts.system.kind == "Linux":
            commands: tuple[str, ...] = ("ssh -Y USER@THIS_MACHINE",)
        elif facts.system.container and facts.system.kind == "Linux":
            commands = ("docker run -e DISPLAY -v /tmp/.X11-unix:/tmp/.X11-unix IMAGE",)
        else:
            commands = ()
        yield Problem("note", "window", what, commands)
    elif not gui:
        headless = [name for name in facts.packages.opencv if "headless" in name]
        what = f"{', '.join(headless) or 'this OpenCV'} opens no windows: exchange it for opencv-python"
        commands = (
            pip_uninstall(facts, facts.packages.opencv or ("opencv-python-headless",)),
            pip_install(facts, "opencv-python"),
        )
        yield Problem("warning", "window", what, commands)
    elif display.works is False:
        yield Problem("warning", "window", *_window_failure(facts))


def _window_failure(facts: Facts) -> tuple[str, tuple[str, ...]]:
    display = facts.display
    told = " ".join((display.problem, *display.stderr))
    what = f"no window can be opened on {display.display or 'the screen'}: {display.problem}"
    if "could not connect to display" in told or "cannot open display" in told:
        if facts.system.container:
            return f"{what}; allow it on the host", ("xhost +SI:localuser:$USER",)
        if display.ssh:
            return what, ("ssh -Y USER@THIS_MACHINE",)
        return f"{what}; take the value that a terminal of the desktop shows", ("echo $DISPLAY",)
    if "platform plugin" in told:
        # The plug-in is in OpenCV's package; the libraries that it loads are the system's.
        return what, apt_install(facts, *_QT_LIBRARIES)
    return what, ()


def _camera(facts: Facts, camera: Camera) -> Iterator[Problem]:
    part = f"camera {camera.number}"
    title = f"camera {camera.number}{f' ({camera.name})' if camera.name else ''}"
    if not camera.allowed:
        group = camera.group or "video"
        what = f"{title}: this user may not open {camera.device}"
        if facts.system.container:
            commands: tuple[str, ...] = (f"docker run --device {camera.device} --group-add {group} IMAGE",)
        elif group == "root":
            commands = (f"sudo chgrp video {camera.device}", f"sudo chmod 660 {camera.device}")
        elif group == "video" and facts.cameras.in_video_group:
            commands = (f"sudo chmod g+rw {camera.device}",)
        else:
            what += "; log out and in again after this"
            commands = (f'sudo usermod -aG {group} "$USER"',)
        yield Problem("warning", part, what, commands)
    elif camera.works is False:
        commands = (f"fuser -v {camera.device}",) if camera.device else ()
        yield Problem("warning", part, f"{title}: {camera.problem}", commands)
