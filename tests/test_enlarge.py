"""Enlarging the grid against cubic interpolation in one step."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from salgan_edge import samples
from salgan_edge.enlarge import enlarge

SIZES = [(640, 480), (1920, 1080), (1080, 1920), (333, 517), (256, 256), (90, 700), (20, 15), (1, 1)]


def in_one_step(grid, width, height):
    values = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(values / max(values.max(), 1), 0, 1)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("text", [None, "a spoon"])
def test_as_cubic_interpolation_in_one_step(predictor, width, height, text):
    grid = predictor.grids(samples.load("coffee"), predictor.embed([text]))[0]
    before = grid.copy()
    enlarged = enlarge(grid, width, height)
    expected = in_one_step(grid, width, height)
    assert enlarged.shape == (height, width)
    assert enlarged.dtype == np.float32
    assert np.abs(enlarged - expected).max() <= 0.002
    assert np.array_equal(grid, before)
    row, column = np.unravel_index(expected.argmax(), expected.shape)
    found_row, found_column = np.unravel_index(enlarged.argmax(), enlarged.shape)
    # Within an eighth of a cell, or the next pixel.
    assert abs(row - found_row) <= max(height / 256, 1)
    assert abs(column - found_column) <= max(width / 256, 1)


@pytest.mark.parametrize("size", [(400, 300), (640, 480), (9, 7)])
def test_stays_within_0_and_1(size):
    """The steepest grid there is: interpolation overshoots at every edge."""
    grid = (np.indices((8, 8)).sum(0) // 2 % 2).astype(np.float32)
    enlarged = enlarge(grid, *size)
    assert enlarged.min() >= 0
    assert enlarged.max() <= 1


def test_keeps_what_is_no_maximum():
    """A map whose largest value is 0.2, as a camera's steadied maps can be, is not stretched to 1."""
    assert np.allclose(enlarge(np.full((4, 6), 0.2, np.float32), 60, 40), 0.2, atol=1e-6)
    assert np.array_equal(enlarge(np.zeros((4, 6), np.float32), 60, 40), np.zeros((40, 60), np.float32))
