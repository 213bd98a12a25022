"""What the tests of `salgan-edge data prepare` share."""

from __future__ import annotations

import csv

import numpy as np

from salgan_edge.gaze.prepare import PrepareOptions
from salgan_edge.gaze.prepare.build import prepare


def picture(seed, size):
    """Distinct smooth pictures, RGB of a size (h, w): JPEG keeps them nearly."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    return np.stack([rows * 3 + seed, columns * 2 + 3 * seed, rows + columns], axis=-1).astype(np.uint8)


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir())


def run_prepare(source, output, **options):
    """The packed folder, read, and the lines that were reported."""
    lines = []
    return prepare(source, output, PrepareOptions(**options), report=lines.append), lines


def refused(run, source, *options, output="refused"):
    """Standard error of the command, which ends with one line of the error and writes nothing."""
    before = set(source.parent.iterdir()) if source.parent.is_dir() else set()
    code, out, err = run("data", "prepare", source, "-o", source.parent / output, *options)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in err
    assert (set(source.parent.iterdir()) if source.parent.is_dir() else set()) == before
    return err
