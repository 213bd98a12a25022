"""What can only be measured in a fresh process: loading a bundle, its first run, and the memory of a command.

``python -m salgan_edge.benchmarks.cold load BUNDLE EXECUTION`` is that process. ``python -m salgan_edge.benchmarks.cold launch COMMAND...``
runs a command and prints its time and memory. It has to be a small process: on Linux, the peak memory of a new process starts at that of the
process that starts it, so a benchmark that has loaded graphs could not measure what a command needs.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salgan_edge.benchmarks.record import Row

from salgan_edge.errors import SalganEdgeError
from salgan_edge.timing import Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from salgan_edge.benchmarks.settings import Frame

    from salgan_edge.devices import Execution

__all__ = ["load_rows", "memory_rows", "shell_rows"]

_TIMEOUT = 600.0
"""Seconds; TensorRT builds its engines at its first use."""
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "import runpy; sys.argv.pop(0); runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)
_MEGA = 1e6


def load_rows(bundle: Path, execution: Execution, runs: int, parameters: Mapping[str, Any]) -> list[Row]:
    """Import, session creation and first run, in several fresh processes.

    The files are in the system's cache after the first process, which is not counted.

    Raises:
        SalganEdgeError: the bundle or the device cannot be used.
    """
    found = [_child(bundle, execution) for _ in range(runs + 1)][1:]
    rows = []
    for name in found[0]:
        blocks = [[answer[name]] for answer in found]
        rows.append(Row("load", name, parameters, Stats.of(blocks)))
    return rows


def shell_rows(bundle: Path, execution: Execution, runs: int, parameters: Mapping[str, Any]) -> list[Row]:
    """``salgan-edge predict`` of one photo and one text from the shell: time, and the greatest memory.

    Raises:
        SalganEdgeError: it failed.
    """
    from salgan_edge import samples  # noqa: PLC0415

    photo = samples.path("coffee")
    found = [_predict(bundle, execution, photo) for _ in range(runs + 1)][1:]
    seconds = [[1000 * answer["seconds"]] for answer in found]
    cpu = [answer["cpu_seconds"] for answer in found if answer["cpu_seconds"] is not None]
    stats = Stats.of(seconds, 1000 * sum(cpu) / len(cpu) if cpu else None)
    note = "the whole command for a photo of 600x400, with the overlay as PNG"
    rows = [Row("load", "salgan-edge predict", parameters, stats, note=note)]
    return [*rows, _memory_row({**parameters, "width": 600, "height": 400}, found)]


def memory_rows(bundle: Path, execution: Execution, frame: Frame, parameters: Mapping[str, Any]) -> list[Row]:
    """The greatest memory of ``salgan-edge predict`` of a photo of some size.

    Raises:
        SalganEdgeError: it failed.
    """
    from salgan_edge.benchmarks.harness import photo_of  # noqa: PLC0415

    from salgan_edge.images import write_image  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        write_image(photo, photo_of(frame))
        found = [_predict(bundle, execution, photo)]
    sized = {**parameters, "width": frame.width, "height": frame.height}
    return [_memory_row(sized, found)]


def _memory_row(parameters: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> Row:
    peaks = [answer["peak_bytes"] for answer in found if answer["peak_bytes"] is not None]
    values = {"peak_mb": max(peaks) / _MEGA if peaks else None}
    return Row(
        "memory",
        "salgan-edge predict",
        parameters,
        values=values,
        note="largest resident memory of the process",
    )


def _predict(bundle: Path, execution: Execution, photo: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        options = [f"--provider-option={key}={value}" for key, value in execution.options.items()]
        options += ["--strict"] if execution.strict else []
        command = [
            *_python("salgan_edge"), "predict", str(photo), "--bundle", str(bundle), *options,
            *(["--text", "a spoon"] if _reads_text(bundle) else []),
            "--output", str(Path(folder) / "overlay.png"), "--device", execution.device,
            *(["--threads", str(execution.threads)] if execution.threads else []),
        ]  # fmt: skip
        return _ask([*_python("salgan_edge.benchmarks.cold"), "launch", *command])


def _reads_text(bundle: Path) -> bool:
    from salgan_edge import contract  # noqa: PLC0415
    from salgan_edge.bundle import Bundle  # noqa: PLC0415

    return Bundle.open(bundle).has(contract.TEXT_ENCODER_FILE)


def _child(bundle: Path, execution: Execution) -> dict[str, Any]:
    values = dataclasses.asdict(execution)
    return _ask([*_python("salgan_edge.benchmarks.cold"), "load", str(bundle), json.dumps(values)])


def _python(module: str) -> list[str]:
    """A command that runs a module with the same Python and the same import path."""
    path = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
    return [sys.executable, "-P", "-c", _START, path, module]


def _ask(command: list[str]) -> dict[str, Any]:
    """The JSON object that a command prints.

    Raises:
        SalganEdgeError: it failed.
    """
    from salgan_edge.doctor.probe import run_child  # noqa: PLC0415

    answer = run_child(command, _TIMEOUT, {**os.environ, "OPENCV_LOG_LEVEL": "OFF"})
    if answer.problem:
        raise SalganEdgeError(f"a fresh process could not be measured: {answer.problem}")
    return answer.values


def main(arguments: Sequence[str]) -> None:
    """Do what the first argument says, and print one JSON object: milliseconds, or what a command needed."""
    warnings.simplefilter("ignore")
    found: dict[str, Any]
    if arguments[0] == "launch":
        found = _launch(arguments[1:])
    else:
        try:
            found = _load(Path(arguments[1]), json.loads(arguments[2]))
        except SalganEdgeError as error:
            found = {"error": str(error)}
    sys.stdout.write(json.dumps(found) + "\n")


def _launch(command: Sequence[str]) -> dict[str, float | str | None]:
    """Run a command: its seconds, CPU seconds and greatest resident bytes."""
    started = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - the benchmark's own command
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    # Warnings are few: they fit into the pipe until they are read.
    found: dict[str, float | str | None] = {"cpu_seconds": None, "peak_bytes": None}
    if hasattr(os, "wait4"):
        # Not psutil: only the system's own account has the greatest memory of a process that has ended.
        _, status, usage = os.wait4(process.pid, 0)
        code = process.returncode = os.waitstatus_to_exitcode(status)
        # Kilobytes on Linux, bytes on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        found = {"cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * unit}
    else:
        code = process.wait()
    found["seconds"] = time.perf_counter() - started
    assert process.stderr is not None
    with process.stderr:
        last = process.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
    if code != 0:
        found["error"] = (last or [f"exit code {code}"])[0].removeprefix("error: ")
    return found


def _load(place: Path, values: dict[str, Any]) -> dict[str, float]:
    times: dict[str, float] = {}

    def timed(name: str, action: Callable[[], Any]) -> Any:
        before = time.perf_counter()
        value = action()
        times[name] = 1000 * (time.perf_counter() - before)
        return value

    def modules() -> None:
        for name in ("cv2", "tokenizers", "onnxruntime", "salgan_edge.predictor"):
            importlib.import_module(name)

    timed("imports", modules)
    import numpy as np  # noqa: PLC0415

    from salgan_edge import contract  # noqa: PLC0415
    from salgan_edge.bundle import Bundle  # noqa: PLC0415
    from salgan_edge.devices import Execution  # noqa: PLC0415
    from salgan_edge.session import GraphSession  # noqa: PLC0415
    from salgan_edge.tokenizer import ClipTokenizer  # noqa: PLC0415

    execution = Execution(**values)
    kept = (contract.GENERATOR_FILE, contract.TEXT_ENCODER_FILE, contract.TOKENIZER_FILE)
    bundle = timed("open and verify the bundle", lambda: Bundle.open(place, keep=kept))

    def session(name: str) -> GraphSession:
        return GraphSession(bundle.read(name), execution, name=name)

    generator = timed("generator: session creation", lambda: session(contract.GENERATOR_FILE))
    image = np.zeros((1, 240, 320, 3), np.uint8)
    vectors = np.zeros((1, 1, bundle.manifest.embedding_dimension), np.float32)
    inputs = {contract.IMAGE: image, contract.TEXT_EMBEDDING: vectors}
    timed("generator: first run", lambda: generator.run(contract.SALIENCY, inputs))
    timed("generator: second run", lambda: generator.run(contract.SALIENCY, inputs))
    if bundle.has(contract.TEXT_ENCODER_FILE):
        tokenizer = timed("tokeniser", lambda: ClipTokenizer(bundle.read(contract.TOKENIZER_FILE)))
        encoder = timed("text encoder: session creation", lambda: session(contract.TEXT_ENCODER_FILE))
        ids = {contract.INPUT_IDS: tokenizer.batch(["a red cup on the table"])}
        timed("text encoder: first run", lambda: encoder.run(contract.TEXT_EMBEDDING, ids))
    return times


if __name__ == "__main__":
    main(sys.argv[1:])
