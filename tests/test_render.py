"""Overlays against the formula in floating point."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from salgan_edge import render
from salgan_edge.errors import InputError

SIZES = [(480, 640), (1080, 1920), (37, 53), (20, 30), (1, 1), (700, 3)]
OPACITIES = [0.0, 0.3, 0.75, 1.0]


def oracle(image, saliency, opacity):
    """The photo mixed with Turbo, whose share is opacity times the root of saliency, all in floating point."""
    levels = np.rint(saliency * 255).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1].astype(np.float64)
    weight = opacity * np.sqrt(saliency.astype(np.float64))[..., None]
    return image + weight * (colours - image)


def bumps(height=32, width=32):
    """A floor and three bumps, as the generator draws them."""
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    grid = np.full((height, width), 0.004)
    for x, y, sigma, value in ((0.3, 0.7, 0.05, 1.0), (0.7, 0.2, 0.1, 0.5), (0.1, 0.1, 0.2, 0.2)):
        grid += value * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return (grid / grid.max()).astype(np.float32)


def cubic(grid, image):
    """The grid enlarged to the photo's size in one step."""
    values = cv2.resize(grid, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(values / max(values.max(), 1), 0, 1)


@pytest.fixture
def noise():
    random = np.random.default_rng(0)
    return lambda shape: random.integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("opacity", OPACITIES)
@pytest.mark.parametrize("size", SIZES)
def test_overlay_is_the_formula(noise, size, opacity):
    image = noise(size)
    saliency = np.random.default_rng(1).random(size, dtype=np.float32) ** 3
    saliency.flat[0], saliency.flat[-1] = 0, 1
    before = image.copy(), saliency.copy()
    shown = render.overlay(image, saliency, opacity)
    assert shown.dtype == np.uint8
    assert np.abs(shown - oracle(image, saliency, opacity)).max() <= 2
    assert np.array_equal(image, before[0])
    assert np.array_equal(saliency, before[1])


def test_overlay_of_every_level():
    """All saliencies and photo levels that matter, at full opacity: no case is left to chance."""
    saliency = np.repeat(np.linspace(0, 1, 2041, dtype=np.float32)[None], 256, axis=0)
    image = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 2041, axis=1)[..., None].repeat(3, axis=2)
    for opacity in OPACITIES:
        difference = render.overlay(image, saliency, opacity) - oracle(image, saliency, opacity)
        assert np.abs(difference).max() <= 2
        assert abs(difference.mean()) < 0.1


def test_overlay_takes_views(noise):
    """Every second pixel, channels in reverse: what callers cut out of other arrays."""
    image = noise((60, 80))
    saliency = np.ascontiguousarray(bumps(60, 80))
    view, part = image[::2, ::-1, ::-1], saliency[::2, ::-1]
    expected = render.overlay(np.ascontiguousarray(view), np.ascontiguousarray(part))
    assert np.array_equal(render.overlay(view, part), expected)
    assert np.array_equal(render.overlay(view, part.astype(np.float64)), expected)


@pytest.mark.parametrize("opacity", [0.3, 0.75])
@pytest.mark.parametrize("size", [*SIZES, (240, 320)])
def test_overlay_of_a_grid_looks_like_that_of_its_enlargement(noise, size, opacity):
    image = noise(size)
    grid = bumps()
    enlarged = cubic(grid, image)
    difference = np.abs(render.overlay_grid(image, grid, opacity) - oracle(image, enlarged, opacity))
    assert difference.max() <= 4
    assert difference.mean() < 0.6


def test_overlay_of_the_real_grid(predictor):
    from salgan_edge import samples

    image = samples.load("coffee")
    grid = cv2.resize(predictor.predict(image, "a spoon").map, (32, 32), interpolation=cv2.INTER_AREA)
    difference = np.abs(
        render.overlay_grid(image, grid).astype(int) - render.overlay(image, cubic(grid, image))
    )
    assert difference.max() <= 4
    assert difference.mean() < 0.6


def test_overlay_of_a_grid_that_overshoots(noise):
    """One lone cell: cubic enlargement goes above 1 and below 0 around it."""
    image = noise((200, 300))
    grid = np.zeros((8, 8), np.float32)
    grid[3:5, 3:5] = 1
    enlarged = cubic(grid, image)
    shown = render.overlay_grid(image, grid)
    difference = np.abs(shown - oracle(image, enlarged, 0.75))
    assert np.percentile(difference, 99) <= 5
    assert np.array_equal(shown[0, 0], image[0, 0])


def test_overlay_of_a_grid_below_one_stays_faint(noise):
    """A map whose largest value is 0.2 is not drawn as if it were 1."""
    image = noise((48, 64))
    grid = np.full((4, 4), 0.2, np.float32)
    expected = oracle(image, np.full((48, 64), 0.2, np.float32), 0.75)
    assert np.abs(render.overlay_grid(image, grid) - expected).max() <= 2
    assert np.array_equal(render.overlay_grid(image, np.zeros((4, 4), np.float32)), image)


def test_overlay_into_a_buffer(noise):
    image = noise((120, 160))
    grid = bumps()
    before = image.copy(), grid.copy()
    buffer = np.full_like(image, 7)
    shown = render.overlay_grid(image, grid, 0.5, buffer)
    assert shown is buffer
    assert np.array_equal(shown, render.overlay_grid(image, grid, 0.5))
    assert np.array_equal(image, before[0])
    assert np.array_equal(grid, before[1])
    # The size at which nothing is left to enlarge takes another way.
    small = noise((16, 16))
    buffer = np.full_like(small, 7)
    assert render.overlay_grid(small, grid, 0.5, buffer) is buffer
    assert np.array_equal(buffer, render.overlay_grid(small, grid, 0.5))


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((120, 161, 3), np.uint8),
        np.zeros((120, 160, 3), np.float32),
        np.zeros((120, 160, 6), np.uint8)[..., ::2],
    ],
)
def test_buffer_that_does_not_fit(noise, out):
    with pytest.raises(InputError, match="a contiguous uint8 array") as caught:
        render.overlay_grid(noise((120, 160)), bumps(), out=out)
    assert "\n" not in str(caught.value)


def test_photo_is_no_buffer(noise):
    image = noise((120, 160))
    with pytest.raises(InputError, match="shares its memory"):
        render.overlay_grid(image, bumps(), out=image)


def test_heat_map_is_turbo_in_rgb():
    levels = np.arange(256, dtype=np.uint8)[None]
    expected = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1]
    assert np.array_equal(render.heat_map((levels / 255).astype(np.float32)), expected)
