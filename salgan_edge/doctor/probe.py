"""Questions asked in a subprocess with a time limit, since native code may crash or hang there, and what answers them.

``python -m salgan_edge.doctor.probe cuda`` prints one line of JSON:

=====================  ==========================================================
``cpu``, ``cuda``, ..  a tiny graph on that device
``import PACKAGE``     version and place of a package
``cuda-libraries``     which libraries of CUDA can be loaded, and their versions
``camera NUMBER``      one frame of a camera
``window``             a small window, shown and closed
``bundle DEVICE PATH`` verify and time a bundle; without PATH the embedded one
=====================  ==========================================================
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salgan_edge.errors import SalganEdgeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Answer", "answer", "ask", "main", "run_child", "run_limited"]

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from salgan_edge.doctor.probe import main; main(sys.argv[1:])"
)
_KEPT_LINES = 12
_WINDOWS_CRASHES = {
    0xC0000005: "access violation",
    0xC000001D: "illegal instruction",
    0xC00000FD: "stack overflow",
    0xC0000135: "a DLL was not found",
    0xC0000409: "stack buffer overrun",
}


@dataclass(frozen=True)
class Answer:
    """What a subprocess found out, or why it did not."""

    values: dict[str, Any] = field(default_factory=dict)
    """What it answered; empty where there is a problem."""
    problem: str = ""
    """Why there is no answer, in a line."""
    stderr: tuple[str, ...] = ()
    """Last lines that it wrote to standard error, where there is a problem."""
    seconds: float = 0.0


def ask(*question: str, timeout: float) -> Answer:
    """Run `salgan_edge.doctor.probe` with the same Python and the same import path.

    Args:
        question: arguments of the probe.
        timeout: seconds.
    """
    # Entries that are no text (importlib hooks of editable installs put none there) cannot travel.
    path = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
    # -P: a file of the current folder named like a package is imported only where we would import it.
    command = [sys.executable, "-P", "-X", "faulthandler", "-c", _START, path, *question]
    # The command line silences OpenCV; here its lines are the reason why a camera does not open.
    return run_child(
        command, timeout, {"ORT_DISABLE_TELEMETRY": "1", **os.environ, "OPENCV_LOG_LEVEL": "WARNING"}
    )


def run_child(command: Sequence[str], timeout: float, environment: Mapping[str, str] | None = None) -> Answer:
    """Run a command whose last line of standard output is a JSON object.

    Args:
        command: program and arguments.
        timeout: seconds.
        environment: its variables; this process's where None.
    """
    started = time.monotonic()
    try:
        code, out, err = run_limited(command, timeout, environment)
    except OSError as error:
        return Answer(problem=f"cannot be started: {error.strerror or error}")
    seconds, lines = time.monotonic() - started, _last_lines(err)
    if code is None:
        problem = f"no answer within {timeout:g} s: it hangs, or needs a longer --timeout"
        return Answer(problem=problem, stderr=lines, seconds=seconds)
    values = _object(out)
    if code != 0 or values is None:
        return Answer(problem=_crash(code, lines), stderr=lines, seconds=seconds)
    problem = str(values.pop("error", ""))
    return Answer(values, problem, lines if problem else (), seconds)


def run_limited(
    command: Sequence[str], timeout: float, environment: Mapping[str, str] | None = None
) -> tuple[int | None, str, str]:
    """Run a command: exit code (None where the time was up), standard output, standard error.

    Args:
        command: program and arguments.
        timeout: seconds.
        environment: its variables; this process's where None.

    Raises:
        OSError: it cannot be started.
    """
    process = subprocess.Popen(  # noqa: S603 - commands of this package
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        return None, *_end(process)
    except BaseException:
        process.kill()
        raise
    return process.returncode, out, err


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Kill a subprocess; one that is stuck in a driver does not die, and is left behind."""
    process.kill()
    try:
        return process.communicate(timeout=2)
    except subprocess.TimeoutExpired:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        if process.poll() is not None:
            return "", ""  # it died, but something that it had started holds on to its output
        # Python would complain of a subprocess that still runs.
        process.returncode = -int(signal.SIGTERM)
        return "", "it could not be killed: it is stuck in a driver"


def _object(out: str) -> dict[str, Any] | None:
    lines = out.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else None
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _last_lines(err: str) -> tuple[str, ...]:
    return tuple(line.rstrip()[:300] for line in err.splitlines() if line.strip())[-_KEPT_LINES:]


def _crash(code: int, lines: Sequence[str]) -> str:
    """How a subprocess ended that should have answered."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = ": a build for another CPU" if name == "SIGILL" else ""
        how = f"crashed ({name}{hint})"
    elif code in _WINDOWS_CRASHES:
        how = f"crashed ({_WINDOWS_CRASHES[code]})"
    else:
        how = f"ended with exit code {code} and no answer"
    told = _telling(lines)
    return f"{how}: {told}" if told else how


def _telling(lines: Sequence[str]) -> str:
    """The line that says most: the first that is not Python's own account of the crash."""
    for line in lines:
        if line.startswith(("Fatal Python error", "Current thread", "Thread 0x", "Extension modules")):
            break
        if not line.startswith((" ", "Traceback")):
            return line
    return ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer one question on standard output."""
    # Native libraries write to standard output too: theirs goes to standard error, ours stays clean.
    sys.stdout.flush()
    result = os.dup(1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    try:
        found = answer(sys.argv[1:] if arguments is None else arguments)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a broken package raises is the answer
        found = {"error": first_line(error), "kind": type(error).__name__}
        if not isinstance(error, SalganEdgeError):
            traceback.print_exc(limit=-4)
    with os.fdopen(result, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(found) + "\n")
    # Native libraries crash at the end of a process at times, when the answer is long known.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def answer(arguments: Sequence[str]) -> dict[str, Any]:
    """What is found out, ready for JSON.

    Raises:
        Exception: whatever a package that does not work raises.
    """
    what, *rest = arguments
    if what == "import":
        from salgan_edge.doctor.system import probe_import  # noqa: PLC0415

        return probe_import(rest[0])
    if what == "cuda-libraries":
        from salgan_edge.doctor.devices import probe_libraries  # noqa: PLC0415

        return probe_libraries()
    if what == "camera":
        from salgan_edge.doctor.vision import probe_camera  # noqa: PLC0415

        return probe_camera(int(rest[0]))
    if what == "window":
        from salgan_edge.doctor.vision import probe_window  # noqa: PLC0415

        return probe_window()
    if what == "bundle":
        from salgan_edge.doctor.examine import probe_bundle  # noqa: PLC0415

        return probe_bundle(rest[0], Path(rest[1]) if len(rest) > 1 else None)
    from salgan_edge.doctor.devices import probe_device  # noqa: PLC0415

    return probe_device(what)


def first_line(error: BaseException) -> str:
    """What an error says first; numpy's begins with advice, and names the cause further down."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "original error was" in line.lower()]
    return (named or lines or [type(error).__name__])[0]


if __name__ == "__main__":
    main()
