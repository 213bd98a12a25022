"""Maps, peaks and pictures, on maps made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from salgan_edge import SaliencyResult, render
from salgan_edge.errors import OutputError
from salgan_edge.images import read_image


def bump(x, y, height, width, sigma=1.5):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)).astype(np.float32)


@pytest.fixture
def result():
    """Two bumps on a 36x36 grid, at (9, 27) and, half as high, (27, 9)."""
    grid = np.maximum(bump(9, 27, 36, 36), 0.5 * bump(27, 9, 36, 36))
    return SaliencyResult.from_grid(np.full((72, 144, 3), 100, np.uint8), "two things", grid)


def test_enlarged_to_the_photo(result):
    # Cell (9, 27) of 36 covers columns 36 to 39 of 144 and rows 54 and 55 of 72.
    assert result.map.shape == (72, 144)
    x, y = result.peak
    assert abs(x - 37.5) <= 1
    assert abs(y - 54.5) <= 1
    assert result.map.max() <= 1


def test_peak_is_in_the_middle_of_its_bump():
    """Overshoot that is cut off would leave a plateau; here the top spans four equal cells."""
    grid = np.zeros((8, 8), np.float32)
    grid[3:5, 3:5] = 1
    result = SaliencyResult.from_grid(np.zeros((400, 400, 3), np.uint8), None, grid)
    assert max(abs(value - 199.5) for value in result.peak) <= 1
    # An eighth of a cell at most is flat.
    assert (result.map == result.map.max()).sum() <= 7 * 7
    assert len(result.peaks()) == 1


def test_peak_is_the_largest_value(result):
    x, y = result.peak
    assert result.map[y, x] == result.map.max()


def test_peaks_are_the_two_bumps(result):
    peaks = result.peaks(5)
    assert (peaks[0].x, peaks[0].y) == result.peak
    assert abs(peaks[1].x - 109.5) <= 2
    assert abs(peaks[1].y - 18.5) <= 1
    assert peaks[1].value == pytest.approx(0.5, abs=0.05)
    assert len(result.peaks(1)) == 1
    values = [peak.value for peak in peaks]
    assert values == sorted(values, reverse=True)


def test_constant_map_has_a_peak():
    result = SaliencyResult(np.ones((10, 10), np.float32), np.zeros((10, 10, 3), np.uint8), None)
    assert len(result.peaks()) >= 1
    assert all(abs(value - 4.5) <= 1 for value in result.peak)


def test_overlay_shows_the_photo_where_nothing_is_salient(result):
    shown = result.overlay()
    assert shown.shape == (72, 144, 3)
    assert shown.dtype == np.uint8
    assert np.abs(shown[0, 0].astype(int) - 100).max() <= 2
    x, y = result.peak
    # Turbo ends in dark red.
    assert shown[y, x, 0] > shown[y, x, 2] + 30


def test_heat_map_ends():
    colours = render.heat_map(np.array([[0.0, 1.0]], np.float32))
    # Turbo runs from dark blue (48, 18, 59) to dark red (122, 4, 3); Mikhailov 2019.
    assert np.abs(colours[0, 0].astype(int) - (48, 18, 59)).max() <= 2
    assert np.abs(colours[0, 1].astype(int) - (122, 4, 3)).max() <= 2


def test_save_overlay_and_map(result, tmp_path):
    result.save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), result.overlay())
    result.save(str(tmp_path / "a.npy"))
    assert np.array_equal(np.load(tmp_path / "a.npy"), result.map)
    result.save_map(tmp_path / "map.png")
    from PIL import Image

    stored = np.asarray(Image.open(tmp_path / "map.png"))
    assert stored.dtype == np.uint16
    assert np.abs(stored / 65535 - result.map).max() < 1e-4
    with pytest.raises(OutputError, match=r"use \.png, \.jpg or \.npy"):
        result.save(tmp_path / "a.txt")
    with pytest.raises(OutputError, match="holds no 16-bit map"):
        result.save_map(tmp_path / "a.jpg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "a.png", "map.png"]


@pytest.mark.parametrize("caption", ["a spoon", "日本語 😀", "word " * 60, "x"])
def test_sheet(result, caption):
    picture = render.sheet(result.image, [result.overlay()] * 2, [caption, "other"])
    panel = 720  # 144x72 enlarged to a height of 360
    assert picture.shape == (396, 3 * panel + 2 * 8, 3)
    # The caption is drawn above the second panel.
    assert (picture[:36, panel + 8 : 2 * panel + 8] < 200).any()
    assert (picture[:36, panel : panel + 8] == 255).all()


def test_peaks_are_in_order_of_their_values():
    values = np.random.default_rng(0).random((800, 1200), np.float32)
    peaks = SaliencyResult(values, np.zeros((800, 1200, 3), np.uint8), None).peaks(5)
    assert [peak.value for peak in peaks] == sorted((peak.value for peak in peaks), reverse=True)
