"""What runs in the subprocesses: ``python -m salgan_edge.doctor.probe cuda`` prints one line of JSON.

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
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salgan_edge.errors import SalganEdgeError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["answer", "main"]


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
        from salgan_edge.doctor.packages import probe_import  # noqa: PLC0415

        return probe_import(rest[0])
    if what == "cuda-libraries":
        from salgan_edge.doctor.cuda import probe_libraries  # noqa: PLC0415

        return probe_libraries()
    if what == "camera":
        from salgan_edge.doctor.cameras import probe_camera  # noqa: PLC0415

        return probe_camera(int(rest[0]))
    if what == "window":
        from salgan_edge.doctor.opencv import probe_window  # noqa: PLC0415

        return probe_window()
    if what == "bundle":
        from salgan_edge.doctor.bundle import probe_bundle  # noqa: PLC0415

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
