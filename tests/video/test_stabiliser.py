"""Steady maps: weights worked out by hand, and the embedded generator on noisy photos."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from salgan_edge import samples
from salgan_edge.errors import InputError
from salgan_edge.video.stabiliser import Stabiliser, stabiliser_of

LEFT = np.array([[[1.0, 0.0]]], np.float32)
RIGHT = np.array([[[0.0, 1.0]]], np.float32)


def relative(grids):
    """What is shown without stabilising: each map over its own maximum."""
    return grids / grids.max((1, 2), keepdims=True)


@pytest.mark.parametrize("rate", [10, 30, 60])
def test_after_one_half_life_half_the_weight(rate):
    """All mass jumps from the left cell to the right one; one half-life is 1, 3 or 6 frames."""
    stabiliser = Stabiliser(half_life=0.1)
    stabiliser(LEFT, 0.0)
    for number in range(1, 2 * rate // 10 + 1):
        stabiliser(RIGHT, number / rate)
        if number == rate // 10:
            assert stabiliser.density == pytest.approx(np.array([[[0.5, 0.5]]]), abs=1e-6)
    assert stabiliser.density == pytest.approx(np.array([[[0.25, 0.75]]]), abs=1e-6)


def test_frame_times_that_vary():
    """Only the time that passed counts: 0.05 + 0.15 s are two half-lives, whatever lies between."""
    stabiliser = Stabiliser(half_life=0.1)
    for time in (7.0, 7.0, 7.05, 7.05, 7.2):
        stabiliser(LEFT if time == 7.0 else RIGHT, time)
    assert stabiliser.density == pytest.approx(np.array([[[0.25, 0.75]]]), abs=1e-6)


def test_grids_become_densities():
    """3 + 1 and 1 + 1: the shares are 3/4, 1/4, 1/2 and 1/2; each prompt has its own."""
    stabiliser = Stabiliser(half_life=0.1, percentile=None)
    shown = stabiliser(np.array([[[3.0, 1.0]], [[1.0, 1.0]]], np.float32), 0.0)
    assert stabiliser.density == pytest.approx(np.array([[[0.75, 0.25]], [[0.5, 0.5]]]))
    assert shown == pytest.approx(np.array([[[1, 1 / 3]], [[1, 1]]]))
    # Half of (3/4, 1/4) and half of (0, 1) is (3/8, 5/8), over its maximum (3/5, 1).
    shown = stabiliser(np.array([[[0.0, 1.0]], [[1.0, 1.0]]], np.float32), 0.1)
    assert shown == pytest.approx(np.array([[[0.6, 1]], [[1, 1]]]), abs=1e-6)


def test_percentile_is_shown_as_one():
    """Of 0, 1, ..., 100 the 80th percentile is 80."""
    grid = np.arange(101, dtype=np.float32).reshape(1, 1, 101)
    shown = Stabiliser(None, 80)(grid, 0.0)
    assert shown == pytest.approx(np.minimum(grid / 80, 1), abs=1e-6)


def test_scale_follows_slowly_down_and_faster_up():
    """Half the mass of a lone cell spreads: its density, and with it the percentile 100, halves.

    After 1.5 s the scale went half the way from 1 to 1/2, so the cell shows (1/2) / (3/4); back at a
    density of 1, after 0.2 s, half the way from 3/4 to 1.
    """
    stabiliser = Stabiliser(None, 100)
    assert stabiliser(LEFT, 0.0)[0, 0, 0] == 1
    shown = stabiliser(np.array([[[1.0, 1.0]]], np.float32), 1.5)
    assert shown == pytest.approx(np.full((1, 1, 2), 2 / 3), abs=1e-6)
    assert stabiliser(LEFT, 1.7)[0, 0, 0] == 1
    # With a scale of 7/8, half the mass shows as 4/7.
    halves = np.array([[[1.0, 1.0]]], np.float32)
    assert stabiliser(halves, 1.7) == pytest.approx(np.full((1, 1, 2), 4 / 7), abs=1e-6)


def test_both_switched_off_is_the_generators_output():
    random = np.random.default_rng(0)
    stabiliser = Stabiliser(None, None)
    for number in range(5):
        grids = relative(random.random((3, 8, 9), dtype=np.float32))
        assert stabiliser(grids, number / 30) == pytest.approx(grids, abs=1e-6)


def test_output_and_input():
    random = np.random.default_rng(0)
    stabiliser = Stabiliser()
    for number in range(20):
        grids = random.random((2, 8, 9), dtype=np.float32) ** 4
        before = grids.copy()
        shown = stabiliser(grids, number / 30)
        assert shown.dtype == np.float32
        assert shown.shape == grids.shape
        assert shown.min() >= 0
        assert shown.max() <= 1
        assert np.array_equal(grids, before)
        # What is shown is the caller's, to draw in.
        shown[:] = 0
    assert stabiliser.density.sum((1, 2)) == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("change", ["reset", "back", "gap", "prompts", "size"])
def test_starts_afresh(change):
    stabiliser = Stabiliser()
    stabiliser(LEFT, 10.0)
    grids, time = RIGHT, 10.01
    if change == "reset":
        stabiliser.reset()
        assert stabiliser.density is None
    elif change == "back":
        time = 9.9
    elif change == "gap":
        time = 15.1
    elif change == "prompts":
        grids = np.concatenate([RIGHT, LEFT])
    else:
        grids = np.array([[[0.0, 1.0, 0.0]]], np.float32)
    shown = stabiliser(grids, time)
    assert shown == pytest.approx(Stabiliser()(grids, 0.0))
    assert stabiliser.density == pytest.approx(grids)


def test_no_gap_yet():
    stabiliser = Stabiliser(half_life=5.0)
    stabiliser(LEFT, 10.0)
    stabiliser(RIGHT, 15.0)
    assert stabiliser.density == pytest.approx(np.array([[[0.5, 0.5]]]))


@pytest.mark.parametrize("half_life", [0.1, None])
@pytest.mark.parametrize("percentile", [99.5, None])
def test_odd_grids(half_life, percentile):
    stabiliser = Stabiliser(half_life, percentile)
    zeros = np.zeros((1, 4, 4), np.float32)
    broken = np.array([[[np.nan, np.inf], [-np.inf, -1]]], np.float32)
    huge = np.full((1, 4, 4), 3e38, np.float32)
    tiny = np.full((1, 4, 4), 1e-45, np.float32)
    assert not stabiliser(zeros, 0.0).any()
    assert stabiliser(huge, 1e9) == pytest.approx(np.ones((1, 4, 4)))
    assert stabiliser(tiny, 2e9) == pytest.approx(np.ones((1, 4, 4)))
    assert not stabiliser(broken, 3e9).any()
    for number, grids in enumerate((zeros, huge, zeros, np.ones((1, 4, 4), np.float32), tiny, zeros)):
        shown = stabiliser(grids, 4e9 + number / 30)
        assert np.isfinite(shown).all()
        assert 0 <= shown.min() <= shown.max() <= 1


def test_covered_lens_is_soon_forgotten():
    """A flat map makes a low scale; a map with a peak after it must not glare for seconds."""
    stabiliser = Stabiliser()
    for number in range(30):
        stabiliser(np.ones((1, 32, 32), np.float32), number / 30)
    rows, columns = np.mgrid[0:32, 0:32]
    grid = np.exp(-((rows - 16) ** 2 + (columns - 16) ** 2) / 18).astype(np.float32)[None]
    for number in range(30, 60):
        shown = stabiliser(grid, number / 30)
    assert (shown == 1).mean() < 0.03


@pytest.mark.parametrize(
    ("setting", "values", "message"),
    [
        ("half_life", (0, -0.1, float("nan"), float("inf")), "seconds above 0 were expected"),
        ("percentile", (0, -1, 100.1, float("nan")), "above 0 to 100 was expected"),
    ],
)
def test_bad_settings(setting, values, message):
    for value in values:
        with pytest.raises(InputError, match=message) as caught:
            Stabiliser(**{setting: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("half_life", "normalise"), [(0, False), (0.2, False), (0, True), (0.2, True)])
def test_what_two_options_ask_for(half_life, normalise):
    made = stabiliser_of(half_life, normalise=normalise)
    if not half_life and not normalise:
        assert made is None
    else:
        assert (made.half_life, made.percentile is not None) == (half_life or None, normalise)


def test_bad_calls():
    stabiliser = Stabiliser()
    for shape in ((4, 4), (0, 4, 4), (1, 0, 4)):
        with pytest.raises(InputError, match=r"\(N, h, w\) was expected"):
            stabiliser(np.zeros(shape, np.float32), 0.0)
    for time in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="finite number of seconds"):
            stabiliser(LEFT, time)


def camera(photo, random):
    """A photo as a cheap camera gives it: sensor noise and JPEG compression of changing quality."""
    noisy = np.clip(photo + random.normal(0, 8, photo.shape), 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(40, 95))])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def flicker(maps):
    """Mean change of a cell, and of the total brightness, from frame to frame."""
    maps = np.stack(maps)
    return np.abs(np.diff(maps, axis=0)).mean(), np.abs(np.diff(maps.mean((1, 2, 3)))).mean()


@pytest.mark.parametrize(
    ("rate", "cells", "brightness"), [(10, 2, 8), (30, 5, 20), (60, 10, 30)], ids=["10fps", "30fps", "60fps"]
)
@pytest.mark.parametrize(("name", "prompt"), [("coffee", "a spoon"), ("astronaut", "the face"), ("chelsea", None)])  # fmt: skip
def test_still_photo_gives_a_steady_map(predictor, name, prompt, rate, cells, brightness):
    """The factors are about two thirds of what was measured over all three photos, or less."""
    random = np.random.default_rng(0)
    photo = cv2.resize(samples.load(name), (320, 240))
    vectors = predictor.embed([prompt])
    grids = [predictor.grids(camera(photo, random), vectors) for _ in range(40)]
    raw = flicker([relative(grid) for grid in grids])
    stabiliser = Stabiliser()
    steady = [stabiliser(grid, number / rate) for number, grid in enumerate(grids)]
    figures = flicker(steady[5:])
    assert figures[0] < raw[0] / cells
    assert figures[1] < raw[1] / brightness
    # It is steady because noise is averaged, not because nothing is shown.
    assert steady[-1].max() == 1
    assert np.corrcoef(steady[-1].ravel(), np.mean(grids, axis=0).ravel())[0, 1] > 0.97


@pytest.mark.parametrize("rate", [10, 30])
def test_object_that_moves_is_followed_within_300_ms(predictor, rate):
    """The cup, cut out and put on a plain background, jumps from left to right."""
    random = np.random.default_rng(0)
    cup = cv2.resize(samples.load("coffee")[60:340, 120:480], (120, 93))
    vectors = predictor.embed(["a cup of coffee"])
    places = {"left": (20, 70), "right": (185, 100)}

    def grids(place):
        x, y = places[place]
        photo = np.full((240, 320, 3), 110, np.uint8)
        photo[y : y + 93, x : x + 120] = cup
        return predictor.grids(camera(photo, random), vectors)

    def inside(field, place):
        row, column = np.unravel_index(field[0].argmax(), field[0].shape)
        x, y = places[place]
        return x <= (column + 0.5) * 10 < x + 120 and y <= (row + 0.5) * 7.5 < y + 93

    stabiliser = Stabiliser()
    for number in range(rate):
        shown = stabiliser(grids("left"), number / rate)
    assert inside(shown, "left")
    assert inside(stabiliser.density, "left")
    for number in range(rate, rate + 3 * rate // 10):
        shown = stabiliser(grids("right"), number / rate)
    assert number / rate - (rate - 1) / rate <= 0.3 + 1e-9
    assert inside(shown, "right")
    assert inside(stabiliser.density, "right")
    assert shown[0, :, 16:].max() > 0.8
    assert shown[0, :, :16].max() < 0.5
