"""What is wrong with devices and the bundle."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from salgan_edge.devices import DEVICES, REQUIREMENTS, SYSTEMS
from salgan_edge.doctor.problems import Problem, pip_install, pip_uninstall, quoted
from salgan_edge.doctor.software_problems import reinstall_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salgan_edge.doctor.devices import DeviceFacts
    from salgan_edge.doctor.facts import Facts

__all__ = ["device_problems"]

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
    """Why a device does not work, the cause that is nearest to the hardware, and what mends that."""
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
    # The commands that follow say how to mend it.
    reason = re.sub(rf"^{device.name} (is not usable|cannot run [^:]+): ", "", device.problem)
    return start + reason.removesuffix("; or use --device cpu"), _software(facts, device)


def _hardware(facts: Facts) -> tuple[str, tuple[str, ...]] | None:
    """What is amiss with NVIDIA's device or driver, and what mends it; None where it is the libraries."""
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
    """Commands that mend a device whose hardware is there."""
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
