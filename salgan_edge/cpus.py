"""How many CPUs this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

__all__ = ["allowed_cpus", "control_groups", "cpu_quota"]

_MOUNT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def allowed_cpus() -> int:
    """Number of CPUs that this process may use: its affinity, and the quota of its control groups."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(root: Path = _MOUNT, own: Path = _OWN) -> float | None:
    """CPUs' worth of time that the control groups of this process allow; None without a limit.

    Args:
        root: where control groups are mounted.
        own: file that names this process's groups.
    """
    limits = []
    for folder in control_groups("cpu", root, own):
        quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
        if not period:
            quota = _text(folder / "cpu.cfs_quota_us").strip()
            period = _text(folder / "cpu.cfs_period_us").strip()
        with contextlib.suppress(ValueError, ZeroDivisionError):
            if int(quota) > 0:
                limits.append(int(quota) / int(period))
    return min(limits, default=None)


def control_groups(controller: str, root: Path = _MOUNT, own: Path = _OWN) -> list[Path]:
    """Folders of this process's control groups and those above them, of versions 1 and 2."""
    folders: list[Path] = []
    for line in _text(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        mounts = [root / controllers, root / controller] if controllers else [root, root / "unified"]
        for mount in mounts:
            # In a container the path may be the host's, which is not mounted here: its end is the root.
            place = mount / path.strip("/")
            folders += [p for p in (place, *place.parents) if p == mount or mount in p.parents]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _text(path: Path) -> str:
    """Content of a small file, empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
