"""To the generator's input, against arithmetic and the graph's own resize; and back, against cubic interpolation in one step."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from salgan_edge import contract, samples
from salgan_edge.bundle import default_bundle
from salgan_edge.devices import Execution
from salgan_edge.resample import enlarge, fit
from salgan_edge.session import GraphSession


@pytest.fixture
def noise():
    random = np.random.default_rng(0)
    return lambda rows, columns: random.integers(0, 256, (rows, columns, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (480, 640, (256, 256)),  # webcam
        (720, 1280, (256, 256)),
        (1080, 1920, (256, 256)),
        (2160, 3840, (256, 256)),
        (240, 320, (256, 256)),
        (100, 80, (256, 256)),  # enlarged: the same lines in the graph and here
        (1, 1, (256, 256)),
        (256, 256, (256, 256)),
        (384, 512, (384, 512)),  # lines would skip every third row: the graph's
        (400, 600, (400, 600)),
        (400, 1200, (400, 1200)),
        (700, 1000, (350, 500)),  # 700 rows are 2.7 times the input
        (700, 5000, (350, 2500)),
    ],
)
def test_sizes(noise, rows, columns, expected):
    photo = noise(rows, columns)
    before = photo.copy()
    fitted = fit(photo, 256, 256)
    assert fitted.shape == (*expected, 3)
    assert fitted.dtype == np.uint8
    assert np.array_equal(photo, before)
    if fitted.shape == photo.shape:
        assert fitted is photo


def test_whole_factors_are_means(noise):
    photo = noise(512, 768)
    means = photo.reshape(256, 2, 256, 3, 3).mean((1, 3))
    assert np.abs(fit(photo, 256, 256) - means).max() <= 0.51


def test_a_ramp_stays_where_it_was():
    """640 columns of a straight ramp: column x of 256 lies at 2.5 (x + 0.5) - 0.5."""
    ramp = np.broadcast_to(np.linspace(0, 255, 640)[None, :, None], (480, 640, 3)).round().astype(np.uint8)
    fitted = fit(ramp, 256, 256).astype(float)
    expected = (2.5 * (np.arange(256) + 0.5) - 0.5) * 255 / 639
    assert np.abs(fitted - expected[None, :, None]).max() <= 1.5
    turned = fit(np.ascontiguousarray(ramp.transpose(1, 0, 2)), 256, 256)
    assert np.abs(turned.astype(float) - expected[:, None, None]).max() <= 1.5


@pytest.fixture(scope="module")
def graph():
    """The embedded generator, as it is."""
    return GraphSession(default_bundle() / contract.GENERATOR_FILE, Execution("cpu"))


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080), (320, 240), (200, 150)])
@pytest.mark.parametrize("name", ["coffee", "astronaut", "chelsea"])
def test_maps_are_those_of_the_graphs_resize(predictor, graph, name, size):
    photo = cv2.resize(samples.load(name), size, interpolation=cv2.INTER_AREA)
    vectors = predictor.embed(["a spoon"])
    (grid,) = predictor.grids(photo, vectors)
    inputs = {contract.IMAGE: photo[None], contract.TEXT_EMBEDDING: vectors[None]}
    expected = graph.run(contract.SALIENCY, inputs)[0, 0]
    assert np.corrcoef(grid.ravel(), expected.ravel())[0, 1] > 0.99
    peak, other = (np.array(np.unravel_index(each.argmax(), each.shape)) for each in (grid, expected))
    assert np.abs(peak - other).max() <= 1


def test_views_are_taken(noise):
    photo = noise(480, 640)
    view = photo[:, ::-1, ::-1]
    assert np.array_equal(fit(view, 256, 256), fit(np.ascontiguousarray(view), 256, 256))


# From the grid back to the photo

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
