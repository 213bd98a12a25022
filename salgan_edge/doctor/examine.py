"""Finds everything out. A part that fails is noted, and the others go on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from salgan_edge.doctor.bundle import BundleFacts, gather_bundle
from salgan_edge.doctor.cameras import Cameras, gather_cameras
from salgan_edge.doctor.cuda import Cuda, gather_cuda
from salgan_edge.doctor.devices import gather_devices
from salgan_edge.doctor.facts import Asked, Facts
from salgan_edge.doctor.opencv import Display, OpenCV, gather_display, opencv_from
from salgan_edge.doctor.packages import Imported, Packages, gather_packages
from salgan_edge.doctor.system import (
    Processor,
    Python,
    System,
    gather_processor,
    gather_python,
    gather_system,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from salgan_edge.doctor.devices import DeviceFacts

__all__ = ["examine"]

_T = TypeVar("_T")
_BUNDLE_TIMES = 4
"""How much longer a bundle may take than the other questions: it is verified and timed."""


def examine(
    bundle: Path | None = None,
    device: str | None = None,
    *,
    cameras: bool = True,
    timeout: float = 30.0,
    progress: Callable[[str], None] = lambda _: None,
) -> Facts:
    """Look at this machine.

    Args:
        bundle: folder or ``.salgan`` file to verify and time; the embedded bundle where None.
        device: try only this one; all where None.
        cameras: also look for cameras, and take a frame of each.
        timeout: seconds for each question that is asked in a subprocess; four times that for the bundle.
        progress: told what is looked at next.
    """
    started = time.monotonic()
    failures: dict[str, str] = {}

    def part(name: str, find: Callable[[], _T], otherwise: _T) -> _T:
        progress(name)
        try:
            return find()
        except Exception as error:  # noqa: BLE001 - the report goes on without this part
            failures[name] = f"{type(error).__name__}: {error}"
            return otherwise

    python = part("Python", gather_python, Python())
    system = part("system", gather_system, System())
    processor = part("processor", gather_processor, Processor())
    packages = part("packages", lambda: gather_packages(timeout), Packages())
    runtime = packages.imports.get("onnxruntime", Imported(problem="it was not tried"))
    vision = packages.imports.get("opencv", Imported(problem="it was not tried"))
    providers = runtime.details.get("providers", [])
    nothing: tuple[DeviceFacts, ...] = ()
    devices = part(
        "devices",
        lambda: gather_devices(providers, timeout, only=device, usable=not runtime.problem),
        nothing,
    )
    gpu_package = any(name.startswith("onnxruntime-gpu") for name in packages.onnxruntime)
    cuda = part("CUDA", lambda: gather_cuda(timeout, libraries=gpu_package), Cuda())
    opencv = part("OpenCV", lambda: opencv_from(vision.details), OpenCV())
    display = part("display", lambda: gather_display(opencv.gui, timeout), Display())
    seen = Cameras()
    if cameras:
        seen = part("cameras", lambda: gather_cameras(timeout, usable=not vision.problem), Cameras())
    facts = BundleFacts(bundle="embedded" if bundle is None else str(bundle), asked_device=device or "auto")
    # What fails on the device asked for alone would fail, or hang, with a bundle as well.
    hopeless = device is not None and not any(found.works for found in devices)
    if not hopeless and not any(imported.problem for imported in packages.imports.values()):
        facts = part(
            "bundle", lambda: gather_bundle(bundle, device or "auto", _BUNDLE_TIMES * timeout), facts
        )
    return Facts(
        asked=Asked(device, facts.bundle, cameras, timeout),
        python=python,
        system=system,
        processor=processor,
        packages=packages,
        devices=devices,
        cuda=cuda,
        opencv=opencv,
        display=display,
        cameras=seen,
        bundle=facts,
        failures=failures,
        seconds=round(time.monotonic() - started, 2),
    )
