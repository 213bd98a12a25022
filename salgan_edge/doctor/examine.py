"""Everything that is found out about a machine: in one object, `Facts`, which `examine` fills.

A part that fails is noted, and the others go on. The main job comes last: a bundle is verified, timed, and predicts an image from a
file to a file.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from salgan_edge.devices import Execution
from salgan_edge.doctor.devices import Cuda, gather_cuda, gather_devices
from salgan_edge.doctor.probe import ask
from salgan_edge.doctor.system import (
    Imported,
    Packages,
    Processor,
    Python,
    System,
    gather_packages,
    gather_processor,
    gather_python,
    gather_system,
)
from salgan_edge.doctor.vision import Cameras, Display, OpenCV, gather_cameras, gather_display, opencv_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from salgan_edge.doctor.devices import DeviceFacts

__all__ = ["Asked", "BundleFacts", "Facts", "examine", "gather_bundle", "probe_bundle"]

_T = TypeVar("_T")
_BUNDLE_TIMES = 4
"""How much longer a bundle may take than the other questions: it is verified and timed."""
_RUNS, _SECONDS = 15, 3.0
"""Timed runs at most, and the time that they may take."""


@dataclass(frozen=True)
class BundleFacts:
    """What running a bundle gave."""

    bundle: str = "embedded"
    """Path, or ``embedded`` for the one in the package."""
    asked_device: str = "auto"
    tried: bool = False
    works: bool = False
    """Every check passed, and an image was predicted from a file to a file."""
    problem: str = ""
    stderr: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    """Checks of `verify` that did not pass, each with what it says."""
    damaged: bool = False
    """The files are at fault, not the machine."""
    checks: int = 0
    """Those that passed."""
    name: str = ""
    bundle_id: str = ""
    precision: str = ""
    device: str = ""
    """Where it ran."""
    load: float | None = None
    """Milliseconds to open the bundle and load the generator."""
    generator: float | None = None
    """Median milliseconds for a photo of 640x480 and one text."""
    text_first: float | None = None
    """Milliseconds for the first text, with loading the text encoder; None without one."""
    text: float | None = None
    """Median milliseconds for a text after that."""
    cpu_instead: bool | None = None
    """The same on the CPU worked; None where that was not tried."""


@dataclass(frozen=True)
class Asked:
    """What the user wants to know."""

    device: str | None = None
    """The only device to try; None for all, and the default one for the bundle."""
    bundle: str = "embedded"
    cameras: bool = True
    timeout: float = 30.0
    """Seconds for one question."""


@dataclass(frozen=True)
class Facts:
    """What `examine` found. Every part has a default, for where it failed."""

    asked: Asked = field(default_factory=Asked)
    python: Python = field(default_factory=Python)
    system: System = field(default_factory=System)
    processor: Processor = field(default_factory=Processor)
    packages: Packages = field(default_factory=Packages)
    devices: tuple[DeviceFacts, ...] = ()
    cuda: Cuda = field(default_factory=Cuda)
    opencv: OpenCV = field(default_factory=OpenCV)
    display: Display = field(default_factory=Display)
    cameras: Cameras = field(default_factory=Cameras)
    bundle: BundleFacts = field(default_factory=BundleFacts)
    failures: dict[str, str] = field(default_factory=dict)
    """Parts of the examination itself that raised an error, and which."""
    seconds: float = 0.0
    """That the examination took."""

    def device(self, name: str) -> DeviceFacts | None:
        """Facts about a device; None where it was not looked at."""
        return next((device for device in self.devices if device.name == name), None)


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


# The main job


def gather_bundle(
    bundle: Path | None, device: str, timeout: float, *, shown: str | None = None
) -> BundleFacts:
    """Verify and time a bundle in a subprocess; on the CPU too where the default device fails.

    Args:
        bundle: folder or ``.salgan`` file; the embedded bundle where None.
        device: where to run.
        timeout: seconds.
        shown: how the report calls the bundle; its path where None.
    """
    place = () if bundle is None else (str(bundle),)
    title = shown or ("embedded" if bundle is None else str(bundle))
    found = ask("bundle", device, *place, timeout=timeout)
    values = found.values
    facts: dict[str, Any] = {
        **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()},
        "bundle": title,
        "asked_device": device,
        "tried": True,
        "problem": found.problem or str(values.get("problem", "")),
        "stderr": found.stderr,
    }
    # An error that the subprocess caught came with its kind.
    kind = str(facts.pop("kind", ""))
    failed = facts.get("failed", ())
    # Other values than the golden ones come of the machine; all else comes of the files.
    facts["damaged"] = kind.startswith("Bundle") or any(not check.startswith("golden") for check in failed)
    facts["works"] = not facts["problem"]
    if not facts["works"] and device != "cpu" and not facts["damaged"]:
        facts["cpu_instead"] = not ask("bundle", "cpu", *place, timeout=timeout).problem
    return BundleFacts(**facts)


def probe_bundle(device: str, bundle: Path | None) -> dict[str, Any]:
    """In a subprocess: verify, predict, time.

    Args:
        device: where to run.
        bundle: None for the embedded one.

    Returns:
        Fields of `BundleFacts`.

    Raises:
        SalganEdgeError: it cannot be loaded or run.
    """
    import numpy as np  # noqa: PLC0415

    from salgan_edge import contract  # noqa: PLC0415
    from salgan_edge.images import write_image  # noqa: PLC0415
    from salgan_edge.predictor import SaliencyPredictor  # noqa: PLC0415
    from salgan_edge.verify.verify import verify_bundle  # noqa: PLC0415

    execution = Execution(device)
    report = verify_bundle(bundle, execution)
    facts: dict[str, Any] = {
        "name": report.name or "",
        "bundle_id": report.bundle_id or "",
        "precision": report.precision or "",
        "device": report.device or "",
        "checks": sum(check.status == "ok" for check in report.checks),
    }
    failed = [f"{c.name}: {c.detail}" for c in report.checks if c.status in ("fail", "skipped")]
    if failed:
        return {**facts, "failed": failed, "problem": f"{failed[0]} ({len(failed)} checks did not pass)"}
    started = time.perf_counter()
    predictor = SaliencyPredictor.load(bundle, execution=execution)
    facts["load"] = _milliseconds(started)
    rows, columns = np.mgrid[0:480, 0:640]
    photo = np.stack([rows // 2, columns // 3, (rows + columns) // 5], axis=-1).astype(np.uint8)
    texts = predictor.bundle.has(contract.TEXT_ENCODER_FILE)
    with tempfile.TemporaryDirectory(prefix="salgan-edge-") as folder:
        write_image(Path(folder) / "photo.png", photo)
        result = predictor.predict(Path(folder) / "photo.png", "a red ball" if texts else None)
        result.save(Path(folder) / "overlay.png")
    if not (np.isfinite(result.map).all() and 0 <= result.map.min() <= result.map.max() <= 1.000001):
        raise ArithmeticError("the map of a test image has values outside 0 to 1")
    facts["text_first"] = round(result.milliseconds["text"], 1) if texts else None
    facts["generator"] = _median(lambda _: predictor.predict(photo).milliseconds["generator"])
    if texts:
        # Known texts cost nothing, so each run has its own.
        facts["text"] = _median(lambda n: predictor.predict(photo, f"the {n}th cup").milliseconds["text"])
    return facts


def _milliseconds(started: float) -> float:
    return round(1000 * (time.perf_counter() - started), 1)


def _median(run: Callable[[int], float]) -> float:
    """Median of some runs after one that does not count."""
    run(0)
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < _RUNS and (len(times) < 3 or time.perf_counter() - started < _SECONDS):
        times.append(run(len(times) + 1))
    return round(statistics.median(times), 2)
