"""Runs a command and says how long it took and what it needed: ``python -m salgan_edge.benchmarks.launch COMMAND...``.

It is a small process: on Linux, a process begins with the greatest memory of the one that starts it, so that a
benchmark that has loaded graphs could not tell what a command needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

__all__ = ["main"]


def main() -> None:
    """Run the command of the arguments, and print one JSON object: seconds, CPU seconds and bytes."""
    started = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - the benchmark's own command
        sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    # Warnings are few: they fit the pipe while nobody reads.
    found: dict[str, float | str | None] = {"cpu_seconds": None, "peak_bytes": None}
    if hasattr(os, "wait4"):
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
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
