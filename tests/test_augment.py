"""Views of photo and maps: worked out by hand, and always alike for both."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from salgan_edge.train.config import TrainConfig, changed
from salgan_edge.train.data.augment import View, draw_view, recoloured

WHOLE = View(np.eye(2), np.zeros(2))


def spot(side, x, y, size=1):
    plane = np.zeros((side, side), np.float32)
    plane[y : y + size, x : x + size] = 1
    return plane


def middle(plane):
    """Centre of mass as a share of the sides, x and y."""
    rows, columns = np.mgrid[: plane.shape[0], : plane.shape[1]]
    total = plane.sum()
    return np.array([(plane * (columns + 0.5)).sum(), (plane * (rows + 0.5)).sum()]) / total / plane.shape[0]


def test_the_whole_photo_is_unchanged():
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (16, 16, 3), np.uint8)
    assert np.array_equal(WHOLE.pixels(photo, 16), photo)
    # Maps are averaged over 2x2 cells.
    maps = random.random((2, 16, 16)).astype(np.float32)
    expected = maps.reshape(2, 8, 2, 8, 2).mean(axis=(2, 4))
    assert np.allclose(WHOLE.maps(maps, 8), expected, atol=1e-6)


def test_mirror_by_hand():
    mirror = draw_view(TrainConfig(), np.random.default_rng(0), mirrored=True, whole=True)
    photo = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    assert np.array_equal(mirror.pixels(photo, 16), photo[:, ::-1])
    maps = spot(16, 2, 4, 2)[None]
    assert np.allclose(mirror.maps(maps, 8)[0], WHOLE.maps(maps, 8)[0][:, ::-1], atol=1e-6)


def test_crop_by_hand():
    # The middle half of the photo, moved by an eighth to the right: a spot around x = 5/8, y = 1/2
    # of the photo is what the view shows in its middle.
    view = View(0.5 * np.eye(2), np.array([0.125, 0.0]))
    shown = view.maps(spot(32, 19, 15, 2)[None], 32)[0]
    assert middle(shown) == pytest.approx([0.5, 0.5], abs=0.01)
    # Twice as large: four times the mass.
    assert shown.sum() == pytest.approx(16, rel=0.05)


def test_quarter_turn_by_hand():
    # The view's right (1, 0) is the photo's bottom (0, 1).
    view = View(np.array([[0.0, -1.0], [1.0, 0.0]]), np.zeros(2))
    shown = view.maps(spot(32, 15, 27, 2)[None], 32)[0]
    assert middle(shown) == pytest.approx([28 / 32, 0.5], abs=0.01)


def test_photo_and_maps_move_alike():
    config = changed(TrainConfig(), augment=0.99, crop=0.3, zoom_out=0.2, stretch=0.3, rotation=10.0)
    plane = spot(64, 26, 34, 6)
    photo = np.repeat((255 * plane)[..., None], 3, axis=2).astype(np.uint8)
    random = np.random.default_rng(0)
    moved = []
    for number in range(20):
        view = draw_view(config, random, mirrored=number % 2 == 0)
        pixels = view.pixels(photo, 64)[..., 0].astype(np.float32)
        # What lies outside the photo is grey; the spot is white.
        seen = np.where(pixels > 128, pixels, 0)
        maps = view.maps(plane[None], 32)[0]
        assert middle(seen) == pytest.approx(middle(maps), abs=0.02)
        moved.append(middle(maps))
    assert np.ptp(moved, axis=0).min() > 0.1


def test_colours():
    random = np.random.default_rng(0)
    photo = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    drawn = np.stack([recoloured(photo, 0.0, random)[0, 0] for _ in range(200)]).astype(float)
    # Without change of colour only lightness varies, but for the few grey ones.
    grey = (drawn[:, 0] == drawn[:, 1]) & (drawn[:, 1] == drawn[:, 2])
    assert 1 <= grey.sum() <= 30
    coloured = drawn[~grey]
    assert (coloured[:, 0] > coloured[:, 1]).all()
    assert (coloured[:, 1] > coloured[:, 2]).all()
    changed_hue = np.stack([recoloured(photo, 0.3, random)[0, 0] for _ in range(200)]).astype(float)
    ratio = changed_hue[:, 0] / np.maximum(changed_hue[:, 1], 1)
    assert ratio.std() > (coloured[:, 0] / coloured[:, 1]).std()
