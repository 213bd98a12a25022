"""The main job: a bundle is verified, timed, and predicts an image from a file to a file."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salgan_edge.devices import Execution
from salgan_edge.doctor.child import ask

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["BundleFacts", "gather_bundle", "probe_bundle"]

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
    from salgan_edge.verification.verify import verify_bundle  # noqa: PLC0415

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
