"""Shapes of box targets are found again in gaze that was made with them."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from salgan_edge.train.data.named import TargetShape, box_map

from tools import fit_targets

SHAPE = TargetShape(spread=0.3, blur=0.08, floor=0.5, share=0.35)
BOXES = (((0.1, 0.2, 0.3, 0.5),), ((0.6, 0.1, 0.7, 0.3),), ((0.2, 0.6, 0.5, 0.9), (0.7, 0.7, 0.8, 0.8)))


def free_view(x, y, side=64):
    cells = (np.arange(side) + 0.5) / side
    values = np.exp(-((cells[None] - x) ** 2 + (cells[:, None] - y) ** 2) / 0.05)
    return (values / values.max()).astype(np.float32)


def told(shape=SHAPE):
    views = [free_view(0.5, 0.5), free_view(0.3, 0.6), free_view(0.6, 0.4)]
    return [
        fit_targets.Told(kind, boxes, free, box_map(boxes, free, shape))
        for kind in ("search", "salient")
        for boxes, free in zip(BOXES, views, strict=True)
    ]


def write_gaze(folder, columns, rows, point):
    """A gaze folder of photos of 40 by 30, each in a shade of its own and looked at in one point."""
    (folder / "images").mkdir(parents=True)
    for shade, image in enumerate(sorted({row[0] for row in rows})):
        cv2.imwrite(str(folder / "images" / f"{image}.png"), np.full((30, 40, 3), shade, np.uint8))
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    np.savez(folder / "fixations.npz", **{f"{row[0]}_{row[1]}": np.array([point], np.uint16) for row in rows})


def peak(grid):
    """Where a grid is largest, as shares of its width and height."""
    row, column = np.unravel_index(int(grid.argmax()), grid.shape)
    return ((column + 0.5) / grid.shape[1], (row + 0.5) / grid.shape[0])


def test_shape_is_found_again(monkeypatch):
    grid = {"spread": (0.2, 0.3, 0.4), "blur": (0.04, 0.08), "floor": (0.5, 1e3), "share": (0.2, 0.35)}
    monkeypatch.setattr(fit_targets, "GRID", grid)
    scores = fit_targets.fit(told())
    assert len(scores) == 3 * 2 * 2 * 2
    best, divergence, shape = scores[0]
    assert shape == SHAPE
    assert best == pytest.approx(1, abs=1e-6)
    assert divergence == pytest.approx(0, abs=1e-5)
    assert [row[0] for row in scores] == sorted((row[0] for row in scores), reverse=True)


def test_kinds_of_viewers_are_scored_apart():
    cases = told()
    cases[0] = fit_targets.Told("search", BOXES[0], cases[0].free, cases[0].gaze.max() - cases[0].gaze)
    scores = fit_targets.score(cases, lambda boxes, free: box_map(boxes, free, SHAPE))
    assert scores["salient"][0] == pytest.approx(1, abs=1e-6)
    # One of three is the opposite of what is made for it.
    assert scores["search"][0] == pytest.approx(1 / 3, abs=1e-6)


def test_peaks_inside():
    cases = told()
    assert fit_targets.peaks_inside(cases, lambda boxes, free: box_map(boxes, free, SHAPE)) == 1
    assert fit_targets.peaks_inside(cases, lambda _boxes, _free: free_view(0.95, 0.95)) == 0


def test_kinds_of_viewers_weigh_the_same(monkeypatch):
    """Nine searchers like wide targets, one viewer a narrow one: each kind has half of the mean."""
    monkeypatch.setattr(
        fit_targets, "GRID", {"spread": (0.1, 0.5), "blur": (0.05,), "floor": (1e3,), "share": (0.1,)}
    )
    narrow, wide = (TargetShape(spread, 0.05, 1e3, 0.1) for spread in (0.1, 0.5))
    free = free_view(0.5, 0.5)
    cases = [fit_targets.Told("search", BOXES[0], free, box_map(BOXES[0], free, wide))] * 9
    cases += [fit_targets.Told("salient", BOXES[0], free, box_map(BOXES[0], free, narrow))]
    between = np.corrcoef(box_map(BOXES[0], free, narrow).ravel(), box_map(BOXES[0], free, wide).ravel())[
        0, 1
    ]
    scores = fit_targets.fit(cases)
    assert [row[0] for row in scores] == pytest.approx([(1 + between) / 2] * 2, abs=1e-6)
    assert between < 0.95


@pytest.mark.parametrize(
    ("text", "noun", "named"),
    [
        ("The dog beside the door", "a dog", True),
        ("A DOG.", "the Dog", True),
        ("Two dogs", "a dog", False),
        ("an apple on a plate", "an apple", True),
        ("a pineapple", "an apple", False),
        ("the c++ book (new)", "the book (new", True),
        ("theatre", "the atre", False),
    ],
)
def test_a_text_has_the_noun_as_whole_words(text, noun, named):
    assert fit_targets.is_named(text, noun) == named


def test_only_nouns_of_the_photo_place_its_viewers(tmp_path):
    """Not those of another photo, neither `attr` nor `rel`, and no test photos; all boxes of all nouns in the text."""
    split = {"a": "validation", "b": "train", "c": "train", "d": "test"}
    texts = {"pure": "", "salient": "The red kettle on it.", "nonsalient": "A kettledrum."}
    rows = [
        [name, condition, text, 40, 30, 1, part]
        for name, part in split.items()
        for condition, text in texts.items()
    ]
    write_gaze(
        tmp_path / "sjtu_tis",
        ["image", "condition", "text", "width", "height", "fixations", "split"],
        rows,
        (10, 12),
    )
    labels = [
        ["sjtu_tis", "a", "noun", "a kettle / the pot", "0.2,0.3,0.4,0.5;0.6,0.3,0.8,0.5"],
        ["sjtu_tis", "a", "noun", "a kettledrum", "0,0,0.1,0.1"],
        ["sjtu_tis", "b", "attr", "the red kettle", "0.2,0.3,0.4,0.5"],
        ["sjtu_tis", "c", "noun", "a spoon", "0.2,0.3,0.4,0.5"],
        ["sjtu_tis", "d", "noun", "a kettle", "0.2,0.3,0.4,0.5"],
    ]
    (tmp_path / "phrases").mkdir()
    with (tmp_path / "phrases" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["set", "image", "kind", "texts", "boxes"], *labels])
    found = fit_targets.told_viewers(tmp_path)
    assert {(case.viewers, case.boxes) for case in found} == {
        ("salient", ((0.2, 0.3, 0.4, 0.5), (0.6, 0.3, 0.8, 0.5))),
        ("nonsalient", ((0.0, 0.0, 0.1, 0.1),)),
    }
    assert all(case.free.shape == case.gaze.shape == (64, 64) for case in found)
    # Fixated at (10, 12) of 40 by 30: a quarter from the left, 12.5 of 30 from the top.
    assert peak(found[0].gaze) == pytest.approx((10.5 / 40, 12.5 / 30), abs=0.03)


def test_searchers(tmp_path):
    """Photos with a place for the target; not those of the test, and each row's place is its own."""
    columns = ["image", "condition", "text", "width", "height", "fixations", "split", "boxes"]
    box = "0.5,0.5,0.7,0.9"
    tables = {
        "rooms": [
            ["a", "search", "a clock", 40, 30, 1, "train", box],
            ["a", "pure", "", 40, 30, 1, "train", ""],
            ["b", "search", "a clock", 40, 30, 1, "test", box],
            ["c", "search", "a clock", 40, 30, 1, "validation", box],
            ["d", "search", "a clock", 40, 30, 1, "train", ""],
        ],
        # Free viewing alone: there is nothing to find.
        "park": [["a", "pure", "", 40, 30, 1, "train", ""]],
    }
    for name, rows in tables.items():
        write_gaze(tmp_path / "phrases" / name, columns, rows, (30, 20))
    seen = []

    def predict(photo):
        seen.append(int(photo[0, 0, 0]))
        return free_view(0.5, 0.5)

    found = fit_targets.searchers(tmp_path, predict)
    assert seen == [0, 2]
    assert [case.viewers for case in found] == ["search"] * 2
    assert all(case.boxes == ((0.5, 0.5, 0.7, 0.9),) for case in found)
    assert np.array_equal(found[0].free, free_view(0.5, 0.5))
    assert peak(found[0].gaze) == pytest.approx((30.5 / 40, 20.5 / 30), abs=0.03)
