"""Texts with boxes in training: what is found, composites, targets, draws, detections that are kept."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from salgan_edge.train.config import TrainConfig, changed  # noqa: E402
from salgan_edge.train.data import samples  # noqa: E402
from salgan_edge.train.data.augment import Composites  # noqa: E402
from salgan_edge.train.data.named import (  # noqa: E402
    Named,
    TargetShape,
    box_map,
    find_phrase_sets,
    named_photos,
    single_things,
    texts_of,
)
from salgan_edge.train.data.samples import Photo, TrainingSet  # noqa: E402
from salgan_edge.train.data.text_vectors import TextVectors, true_vectors  # noqa: E402

from salgan_edge.gaze.detector import Detection, detect_all  # noqa: E402
from salgan_edge.gaze.folder import GazeFolder  # noqa: E402
from salgan_edge.images import write_image  # noqa: E402

PHRASES = ["image", "phrase", "boxes", "kind", "split"]
LABELS = ["set", "image", "kind", "texts", "boxes", "split"]


def table(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def photos(folder, *names):
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name in names:
        write_image(folder / "images" / f"{name}.png", np.zeros((6, 8, 3), np.uint8))


@pytest.fixture
def data(tmp_path):
    """Photos with placed things (park, labels), of single things (shop, framed), of dressed people (ccp)."""
    photos(tmp_path / "phrases" / "park", "a", "b", "c", "d")
    table(
        tmp_path / "phrases" / "park" / "phrases.csv",
        PHRASES,
        ["a", "a bench", "0.1,0.1,0.3,0.3", "LabelMe", "train"],
        ["a", "the sky", "0,0,1,0.8", "LabelMe", "train"],
        ["a", "peace", "", "LabelMe", "train"],
        ["b", "a tree", "0.1,0.1,0.3,0.3", "LabelMe", "validation"],
        ["c", "a swing", "0.1,0.1,0.3,0.3", "LabelMe", "test"],
        ["d", "a lawn", "0,0,0.9,0.9", "LabelMe", "train"],
    )
    photos(tmp_path / "phrases" / "shop", "apple", "pear")
    table(
        tmp_path / "phrases" / "shop" / "phrases.csv",
        PHRASES,
        ["apple", "an apple", "", "image-level", "train"],
        ["apple", "golden delicious", "", "image-level fine", "train"],
        ["pear", "a pear", "", "image-level", "test"],
    )
    photos(tmp_path / "framed", "fish", "two")
    table(
        tmp_path / "framed" / "phrases.csv",
        PHRASES,
        ["fish", "a goldfish", "0.2,0.2,0.8,0.6", "box", "train"],
        ["two", "a cat", "0.1,0.1,0.4,0.4", "box", "train"],
        ["two", "a dog", "0.5,0.1,0.9,0.4", "box", "train"],
    )
    photos(tmp_path / "phrases" / "ccp", "1", "2")
    table(
        tmp_path / "phrases" / "ccp" / "phrases.csv",
        PHRASES,
        ["1", "a hat", "0.4,0.1,0.6,0.2", "part", "train"],
        ["1", "a person", "0.3,0.1,0.7,0.9", "person", "train"],
        ["2", "a person", "0.3,0.1,0.7,0.9", "person", "test"],
    )
    table(
        tmp_path / "phrases" / "labels.csv",
        LABELS,
        ["park", "a", "noun", "a bin / the dustbin", "0.8,0.8,0.9,0.9", "train"],
        ["ccp", "1", "noun", "a red hat", "0.4,0.1,0.6,0.2", "train"],
    )
    return tmp_path


def test_all_tables_are_found(data):
    def names(*without):
        return [found.name for found in find_phrase_sets(data, lambda name: name not in without)]

    assert names() == ["labels", "framed", "ccp", "park", "shop"]
    assert names("ccp", "shop") == ["labels", "framed", "park"]
    assert names("labels", "nowhere") == ["framed", "ccp", "park", "shop"]
    (data / "phrases" / "labels.csv").unlink()
    assert names() == ["framed", "ccp", "park", "shop"]


def test_named_photos(data):
    """Placed things of all tables together; nothing too large, without a place, or alone in its photo."""
    sets = find_phrase_sets(data)
    found, files = named_photos(sets, ["train"])
    assert found == {
        "park/a": [
            Named(("a bin", "the dustbin"), ((0.8, 0.8, 0.9, 0.9),)),
            Named(("a bench",), ((0.1, 0.1, 0.3, 0.3),)),
        ],
        "ccp/1": [Named(("a red hat",), ((0.4, 0.1, 0.6, 0.2),))],
        "framed/two": [
            Named(("a cat",), ((0.1, 0.1, 0.4, 0.4),)),
            Named(("a dog",), ((0.5, 0.1, 0.9, 0.4),)),
        ],
    }
    assert files.keys() == found.keys()
    assert files["park/a"] == data / "phrases" / "park" / "images" / "a.png"
    assert set(named_photos(sets, ["validation"])[0]) == {"park/b"}
    assert set(named_photos(sets, ["train", "validation"])[0]) == {"park/a", "park/b", "ccp/1", "framed/two"}
    # A set that is left out is so in labels.csv too.
    assert set(named_photos(sets, ["train"], lambda name: name != "park")[0]) == {"ccp/1", "framed/two"}


def test_single_things_and_people(data):
    things, people = single_things(find_phrase_sets(data), ["train"])
    assert things == [
        (data / "framed" / "images" / "fish.png", Named(("a goldfish",), ((0.2, 0.2, 0.8, 0.6),))),
        (
            data / "phrases" / "shop" / "images" / "apple.png",
            Named(("an apple", "golden delicious"), ((0.05, 0.05, 0.95, 0.95),)),
        ),
    ]
    # The person comes first, whatever the table's order.
    person, hat = Named(("a person",), ((0.3, 0.1, 0.7, 0.9),)), Named(("a hat",), ((0.4, 0.1, 0.6, 0.2),))
    assert people == [(data / "phrases" / "ccp" / "images" / "1.png", [person, hat])]
    assert single_things(find_phrase_sets(data), ["train"], lambda name: name != "shop")[0] == things[:1]
    things, people = single_things(find_phrase_sets(data), ["test"])
    assert [file.stem for file, _ in things] == ["pear"]
    assert [file.stem for file, _ in people] == ["2"]


def test_texts_with_what_they_become_in_a_mirror():
    named = [Named(("a cup", "the left cup"), ()), Named(("a cup",), ())]
    assert texts_of(named) == {"a cup", "the left cup", "the right cup"}


# Composites: each thing has a colour of its own in its box, so that pixels tell where it really is

BOX = (0.25, 0.125, 0.75, 0.625)
COLOURS = [(40 * (n % 3) + 90, 60 * (n // 3 % 3) + 60, 230 - 20 * n) for n in range(10)]
HAT, BAG, SKIN = (250, 0, 0), (0, 0, 250), (0, 250, 0)


def painted(path, shape, *areas):
    """A black picture with coloured boxes."""
    pixels = np.zeros((*shape, 3), np.uint8)
    for (x0, y0, x1, y1), colour in areas:
        rows = slice(round(y0 * shape[0]), round(y1 * shape[0]))
        pixels[rows, round(x0 * shape[1]) : round(x1 * shape[1])] = colour
    write_image(path, pixels)
    return path


@pytest.fixture
def things(tmp_path):
    """Ten pictures of 160 pixels; the first two are also called the same."""
    return [
        (
            painted(tmp_path / f"{n}.png", (160, 160), (BOX, colour)),
            Named((f"thing {n}", "a fish") if n < 2 else (f"thing {n}",), (BOX,)),
        )
        for n, colour in enumerate(COLOURS)
    ]


@pytest.fixture
def people(tmp_path):
    """Eight people; every other has a hat, every fourth a bag."""
    person, hat, bag = (0.25, 0.1, 0.75, 0.9), (0.375, 0.1, 0.625, 0.25), (0.25, 0.5, 0.5, 0.75)
    made = []
    for n in range(8):
        areas = [(person, SKIN, "a person"), *([(hat, HAT, "a hat")] if n % 2 else []),
                 *([(bag, BAG, "a bag")] if n % 4 == 1 else [])]  # fmt: skip
        file = painted(tmp_path / f"person{n}.png", (320, 240), *((box, colour) for box, colour, _ in areas))
        made.append((file, [Named((text,), (box,)) for box, _, text in areas]))
    return made


def alike(pixels, colour):
    """Which pixels have a colour, but for what interpolation does."""
    return np.abs(pixels.astype(int) - np.array(colour)).max(-1) < 12


def covered(boxes, shape, margin=0):
    """Which pixels lie in one of the boxes, made smaller (or larger) by a margin of pixels."""
    y, x = (axis + 0.5 for axis in np.indices(shape))
    inside = np.zeros(shape, bool)
    for x0, y0, x1, y1 in boxes:
        inside |= (
            (x > x0 * shape[1] + margin)
            & (x < x1 * shape[1] - margin)
            & (y > y0 * shape[0] + margin)
            & (y < y1 * shape[0] - margin)
        )
    return inside


def assert_shown(pixels, boxes, colour):
    """The colour fills the boxes, and is nowhere else."""
    shown = alike(pixels, colour)
    inside = covered(boxes, shown.shape, 2)
    assert inside.any()
    assert shown[inside].all()
    assert not (shown & ~covered(boxes, shown.shape, -2)).any()


def test_mosaic_boxes_lie_where_the_things_are(things):
    composites = Composites(things, [], 120)
    assert composites
    sizes = set()
    for seed in range(12):
        scene = composites.scene(np.random.default_rng(seed))
        assert scene.pixels.shape == (120, 120, 3)
        boxes = {text: row.boxes for row in scene.named for text in row.texts}
        numbers = [n for n in range(10) if f"thing {n}" in boxes]
        sizes.add(len(numbers))
        for n in numbers:
            assert_shown(scene.pixels, boxes[f"thing {n}"], COLOURS[n])
        # What two pictures are called means both.
        fish = {box for n in (0, 1) for box in boxes.get(f"thing {n}", ())}
        assert set(boxes.get("a fish", ())) == fish
    assert sizes == {4, 9}


def test_same_seed_same_composites(things, people):
    composites = Composites(things, people, 100)

    def scenes(seed):
        random = np.random.default_rng(seed)
        return [composites.scene(random) for _ in range(6)]

    for one, other in zip(scenes(3), scenes(3), strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert one.named == other.named
    assert any(not np.array_equal(a.pixels, b.pixels) for a, b in zip(scenes(3), scenes(4), strict=True))
    # Both kinds are made.
    texts = [{text for row in scene.named for text in row.texts} for scene in scenes(3) + scenes(4)]
    assert any("a hat" in found for found in texts)
    assert any(found & {f"thing {n}" for n in range(10)} for found in texts)


def test_too_few_photos_make_no_composites(things, people):
    assert not Composites(things[:8], people[:3], 64)
    assert Composites(things[:9], [], 64)
    assert Composites([], people[:4], 64)
    assert len(Composites(things[:1], people[1:2], 64).named) == 4


@pytest.mark.parametrize("size", [80, 200])
def test_people_side_by_side(people, size):
    """A text has the boxes of all who wear what it names; one that fits everybody is not asked."""
    composites = Composites([], people, size)
    hats = set()
    for seed in range(25):
        scene = composites.scene(np.random.default_rng(seed))
        boxes = {text: row.boxes for row in scene.named for text in row.texts}
        assert "a person" not in boxes or len(boxes) == 1
        for text, colour in (("a hat", HAT), ("a bag", BAG)):
            if text in boxes:
                assert_shown(scene.pixels, boxes[text], colour)
                hats.add(len(boxes[text]))
            elif "a person" not in boxes:
                # Nobody has it, or everybody.
                columns = alike(scene.pixels, colour).any(0)
                count = np.count_nonzero(np.diff(columns.astype(int)) == 1) + int(columns[0])
                assert count in (0, 2, 3, 4)
    assert {1, 2} <= hats


def test_people_who_fill_their_photos_side_by_side(tmp_path):
    """Columns of 80 / 3 pixels are rounded; still everybody is seen to be a person, and the hat tells."""
    person, hat = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.25)
    people = [
        (
            painted(tmp_path / f"{n}.png", (320, 160), (person, SKIN), *([(hat, HAT)] if n % 2 else [])),
            [Named(("a person",), (person,)), *([Named(("a hat",), (hat,))] if n % 2 else [])],
        )
        for n in range(4)
    ]
    composites = Composites([], people, 80)
    told = 0
    for seed in range(20):
        scene = composites.scene(np.random.default_rng(seed))
        boxes = {text: row.boxes for row in scene.named for text in row.texts}
        if "a hat" in boxes and "a person" not in boxes:
            assert_shown(scene.pixels, boxes["a hat"], HAT)
            told += 1
        else:
            # Only where hats are on all heads or none does nothing tell.
            assert boxes.keys() in ({"a person"}, {"a person", "a hat"})
            assert alike(scene.pixels, HAT)[2].mean() in (0, 1)
    assert told >= 10


def test_people_who_wear_the_same_are_asked_for_all_the_same(people):
    """Where nothing tells people apart, the texts stay: there is nothing else to ask."""
    composites = Composites([], people[::2], 90)
    for seed in range(5):
        scene = composites.scene(np.random.default_rng(seed))
        (row,) = scene.named
        assert row.texts == ("a person",)
        assert 2 <= len(row.boxes) <= 4
        assert_shown(scene.pixels, row.boxes, SKIN)


def test_things_are_pasted_and_what_they_hide_is_dropped(things):
    composites = Composites(things, [], 120)
    left, right, small = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), (0.1, 0.4, 0.3, 0.6)
    colours = {left: (255, 255, 255), right: (10, 10, 250), small: (250, 10, 10)}
    photo = np.zeros((120, 120, 3), np.uint8)
    for box, colour in colours.items():
        photo[covered([box], (120, 120))] = colour
    named = [
        Named(("a wall",), (left,)), Named(("the sea",), (right,)), Named(("a ball", "a toy"), (small,)),
        Named(("everything red or blue",), (small, right)),
    ]  # fmt: skip
    before = photo.copy()
    dropped, counts, loose = set(), set(), 0
    for seed in range(60):
        scene = composites.paste(photo, named, np.random.default_rng(seed))
        assert np.array_equal(photo, before)
        boxes = {text: row.boxes for row in scene.named for text in row.texts}
        pasted = [n for n in range(10) if f"thing {n}" in boxes]
        counts.add(len(pasted))
        for n in pasted:
            # A second thing may hide up to 30 % of the first.
            shown = alike(scene.pixels, COLOURS[n])
            for box in boxes[f"thing {n}"]:
                assert shown[covered([box], shown.shape, 2)].mean() > 0.6
            loose += (shown & ~covered(boxes[f"thing {n}"], shown.shape, -2)).any()
        unhidden = {
            box: (scene.pixels == photo).all(-1)[covered([box], (120, 120))].mean() for box in colours
        }
        for row in named:
            # Two pasted things may hide 29 % each.
            kept = row.texts[0] in boxes
            if not kept:
                dropped.add(row.texts[0])
                assert row not in scene.named
                assert min(unhidden[box] for box in row.boxes) < 0.72
            else:
                assert boxes[row.texts[0]] == row.boxes
                assert min(unhidden[box] for box in row.boxes) > 0.4
    assert {"a ball", "everything red or blue"} <= dropped
    assert counts == {1, 2}
    # But for a thing that was pasted twice and hid itself, nothing of the colour lies elsewhere.
    assert loose <= 1


def test_a_pasted_thing_joins_its_like(things):
    """A dog that is pasted beside a dog: the text means both."""
    composites = Composites(things[2:3], [], 120)
    corner = (0.0, 0.0, 0.1, 0.1)
    photo = np.zeros((120, 120, 3), np.uint8)
    joined = 0
    for seed in range(20):
        scene = composites.paste(photo, [Named(("thing 2",), (corner,))], np.random.default_rng(seed))
        rows = [row.boxes for row in scene.named if "thing 2" in row.texts]
        assert len(rows) == 1
        joined += corner in rows[0]
        shown = alike(scene.pixels, COLOURS[2])
        pasted = [box for box in rows[0] if box != corner]
        assert 1 <= len(pasted) <= 2
        assert all(shown[covered([box], shown.shape, 2)].mean() > 0.6 for box in pasted)
    assert joined > 10
    assert Composites([], [], 120).paste(photo, [], np.random.default_rng(0)) is None


# Targets


def test_box_target_by_hand():
    """Sides of .4 and 0 with a spread of .3 and a blur of .05: deviations hypot(.12, .05) = .13 and .05."""
    flat = np.ones((100, 100), np.float32)
    target = box_map([(0.305, 0.405, 0.705, 0.405)], flat, TargetShape(0.3, 0.05, 0.5, 0.25))
    assert target.dtype == np.float32
    assert np.unravel_index(target.argmax(), target.shape) == (40, 50)
    assert target[40, 50] == pytest.approx(1.25)
    for row, column in ((40, 50 + 13), (40, 50 - 13), (40 + 5, 50), (40 - 5, 50)):
        assert target[row, column] == pytest.approx(np.exp(-0.5) + 0.25, abs=1e-5)
    assert target[45, 63] == pytest.approx(np.exp(-1) + 0.25, abs=1e-5)
    assert target[5, 5] == pytest.approx(0.25, abs=1e-5)


def test_boxes_of_any_size_are_worth_the_same():
    flat = np.full((50, 50), 0.5, np.float32)
    target = box_map([(0.03, 0.03, 0.19, 0.19), (0.41, 0.41, 0.97, 0.97)], flat, TargetShape(0.2, 0.02, 1, 1))
    assert target[5, 5] == pytest.approx(1.5, abs=1e-3)
    assert target[34, 34] == pytest.approx(1.5, abs=1e-3)
    assert target.max() == pytest.approx(1.5, abs=1e-3)


def test_free_viewing_decides_within_a_box():
    """Four deviations apart from the middle a cell is worth exp(-8); there free viewing moves little."""
    free = np.zeros((41, 41), np.float32)
    free[14, 20] = 1
    box = [(0.0, 0.0, 1.0, 1.0)]

    def made(floor):
        # Deviation .25 of 41 cells; the bright cell lies 6 cells above the middle.
        return box_map(box, free, TargetShape(0.25, 0.0, floor, 0.0))

    away = np.exp(-((6 / 41 / 0.25) ** 2) / 2)
    # (floor + 1) * away against floor * 1 in the middle.
    assert made(0.5)[14, 20] == 1
    assert made(0.5)[20, 20] == pytest.approx(0.5 / (1.5 * away), abs=1e-5)
    assert made(1000)[14, 20] == pytest.approx(1.001 * away, abs=1e-5)
    assert np.unravel_index(made(1000).argmax(), free.shape) == (20, 20)
    # What is looked at beside the box counts by its share alone.
    free[:] = 0
    free[2, 2] = 1
    target = box_map([(0.7, 0.7, 0.9, 0.9)], free, TargetShape(0.25, 0.02, 0.5, 0.35))
    assert target[2, 2] == pytest.approx(0.35, abs=1e-5)
    assert target.max() == pytest.approx(1, abs=0.01)


# Draws


class Encoder:
    """A direction of its own for each text, which tells what was asked."""

    def __init__(self):
        self.random = np.random.default_rng(0)
        self.known = {}

    def __call__(self, texts):
        for text in texts:
            if text not in self.known:
                vector = self.random.normal(size=512).astype(np.float32)
                self.known[text] = vector / np.linalg.norm(vector)
        return np.stack([self.known[text] for text in texts])

    def text(self, vector):
        if not vector.any():
            return ""
        return next(text for text, known in self.known.items() if np.array_equal(known, vector))


PLAIN = {"size": 64, "augment": 0.0, "colour": 0.0, "batch_size": 4}


@pytest.fixture
def training(gaze_data):
    """A function that makes a training set of the made-up folder and an encoder to read it with."""

    def make(named=(), others=(), made=None, folders=None, detections=None, **settings):
        encode = Encoder()
        folders = folders or [GazeFolder(gaze_data / "sjtu_tis")]
        names = sorted({f"sjtu_tis/{pair.image}" for pair in folders[0].select("train")})
        true = true_vectors(gaze_data / "clip_text")
        true = TextVectors(true.texts, encode(true.texts))
        data = TrainingSet(
            folders, detections or {}, lambda _: np.zeros((64, 64, 3), np.uint8), encode, true,
            TextVectors([], np.zeros((0, 512), np.float32)), changed(TrainConfig(), **PLAIN, **settings), 16,
            named=dict(zip(names, ([thing] for thing in named), strict=False)), others=others, composites=made,
        )  # fmt: skip
        return data, encode

    return make


def other(name, *named):
    free = np.ones((32, 32), np.float32)
    free[20:24, 20:24] = 2
    return Photo(
        name, 0, np.full((64, 64, 3), 77, np.uint8), [("", free / 2)], list(named), free_weight=0.3
    )  # fmt: skip


def test_an_epoch_repeats_peoples_gaze_and_adds_composites(training, gaze_data, tmp_path, things):
    shutil.copytree(gaze_data / "sjtu_tis", tmp_path / "osie")
    folders = [GazeFolder(gaze_data / "sjtu_tis"), GazeFolder(tmp_path / "osie")]
    count = len({pair.image for pair in folders[0].select("train")})
    others = [other(f"park/{n}") for n in range(3)]
    composites = Composites(things, [], 80)
    data, _ = training([], others, composites, folders, human_repeats=3, composites=7)
    assert [photo.name.split("/")[0] for photo in data.photos] == (
        ["sjtu_tis"] * count + ["osie"] * count + ["park"] * 3
    )
    batches = data.batches(np.random.default_rng(0))
    drawn = np.bincount(np.concatenate(batches))
    assert drawn.tolist() == [3] * count + [1] * (count + 3) + [1] * 7
    # Four photos to a step, and what is left over shared among the steps.
    assert {len(batch) for batch in batches} <= {4, 5}
    assert batches != data.batches(np.random.default_rng(1))
    assert batches == data.batches(np.random.default_rng(0))
    # Composites that cannot be made are not drawn, nor is anything repeated that need not be.
    data, _ = training([], others, None, human_repeats=1, composites=7)
    assert sorted(np.concatenate(data.batches(np.random.default_rng(0)))) == [*range(count + 3)]


def test_composites_ask_for_what_is_in_them(training, things):
    data, encode = training(
        [Named(("a lamp",), (BOX,))], made=Composites(things, [], 80), composites=5, prompts=6
    )
    beyond = range(len(data.photos), len(data.photos) + 5)
    batch = data.batch(beyond, np.random.default_rng(0))
    assert (batch.pixels.flatten(1).float().std(1) > 10).all()
    assert (batch.domain == 0).all()
    for texts, weights, targets in zip(batch.text.numpy(), batch.weight.numpy(), batch.target, strict=True):
        asked = [encode.text(vector) for vector in texts]
        # Nobody looked at it freely.
        assert (asked[0], weights[0]) == ("", 0)
        assert len(set(asked)) >= 5
        for text, weight, target in zip(asked[1:], weights[1:], targets[1:], strict=True):
            if text == "a lamp":
                assert weight == pytest.approx(0.5 * 0.3)
                assert torch.equal(target, targets[0])
            else:
                assert text.startswith("thing ") or text == "a fish"
                assert weight == pytest.approx(0.5)


def test_named_things_are_asked_for_in_one_wording(training):
    """After people's own texts, as many as there is room for, with targets in their boxes."""
    named = Named(("a cup", "the mug"), ((0.0, 0.0, 0.25, 0.25),))
    data, encode = training([named] * 10, prompts=5, named_weight=0.25)
    random = np.random.default_rng(0)
    wordings = set()
    for _ in range(5):
        batch = data.batch(range(4), random)
        for texts, weights, targets in zip(batch.text.numpy(), batch.weight, batch.target, strict=True):
            wordings.add(encode.text(texts[4]))
            assert weights.tolist() == pytest.approx([1, 1, 1, 1, 0.25])
            y, x = np.unravel_index(int(targets[4].argmax()), (16, 16))
            assert y < 5
            assert x < 5 or x > 10
    assert wordings == {"a cup", "the mug"}


def test_left_and_right_change_places_in_a_mirrored_photo(training):
    named = Named(("the cup on the left",), ((0.0, 0.4, 0.2, 0.6),))
    data, encode = training([named] * 10, prompts=5)
    random = np.random.default_rng(0)
    sides = set()
    for _ in range(4):
        batch = data.batch(range(6), random)
        for texts, target in zip(batch.text.numpy(), batch.target[:, 4], strict=True):
            side = "left" if int(target.sum(0).argmax()) < 8 else "right"
            sides.add(side)
            assert encode.text(texts[4]) == f"the cup on the {side}"
            # People's own texts, "the salient thing on the left of photo 7", are mirrored with it.
            assert all(f"on the {side} of photo" in encode.text(vector) for vector in texts[1:4])
    assert sides == {"left", "right"}


ABSENT = {
    "a red bus": {"two buses", "a red door"},
    "two buses": {"a red bus"},
    "a red door": {"a red bus"},
    "the tv": {"a TV on the wall"},
    "a TV on the wall": {"the tv"},
    "dishes, and a cup": {"a dish"},
    "a dish": {"dishes, and a cup"},
    "glasses": {"a glass"},
    "a glass": {"glasses"},
}
"""Texts, each with those about the same things."""


def test_absent_texts_share_no_word_with_the_photo(training):
    """Asked for what is not there, people look as if told nothing; what may be there teaches nothing."""
    texts = list(ABSENT)
    data, encode = training([Named((text,), ((0.4, 0.4, 0.6, 0.6),)) for text in texts], prompts=7)
    assert len(data.photos) >= len(texts)
    random = np.random.default_rng(0)
    counted = set()
    for _ in range(40):
        batch = data.batch(range(len(texts)), random)
        for own, vectors, weights, targets in zip(
            texts, batch.text.numpy(), batch.weight.numpy(), batch.target, strict=True
        ):
            assert encode.text(vectors[4]) == own
            for vector, weight, target in zip(vectors[5:], weights[5:], targets[5:], strict=True):
                text = encode.text(vector)
                assert torch.equal(target, targets[0])
                assert text in ABSENT
                if text in {own, *ABSENT[own]}:
                    assert weight == 0, (own, text)
                else:
                    assert weight == pytest.approx(0.5 * 0.3), (own, text)
                    counted.add((own, text))
    assert len(counted) > 40


def test_detected_objects_are_not_absent(training, gaze_data):
    """A bus that the detector saw, though no text names it."""
    folder = GazeFolder(gaze_data / "sjtu_tis")
    bus = [Detection("bus", 0.9, (0.2, 0.2, 0.6, 0.6))]
    named = [Named(("a red bus",), (BOX,)), Named(("a lamp",), (BOX,)), Named(("a kettle",), (BOX,))]
    detections = {f"sjtu_tis/{pair.image}": bus for pair in folder.pairs}
    data, encode = training(named, detections=detections, prompts=7)
    random = np.random.default_rng(0)
    asked = set()
    for _ in range(40):
        batch = data.batch([1], random)
        for vector, weight in zip(batch.text[0, 5:].numpy(), batch.weight[0, 5:].numpy(), strict=True):
            text = encode.text(vector)
            asked.add(text)
            if text == "a red bus":
                assert weight == 0
            elif text == "a kettle":
                assert weight == pytest.approx(0.5 * 0.3)
    assert {"a red bus", "a kettle", "a bus"} <= asked


def test_other_photos_have_pasted_things_now_and_then(training, things, monkeypatch):
    """Free viewing that was made up weighs little, and nothing once the photo is another."""
    monkeypatch.setattr(samples, "_PASTED", 0.0)
    photo = other("park/1", Named(("a lamp",), (BOX,)))
    data, encode = training([], [photo], Composites(things, [], 80), prompts=4)
    index = len(data.photos) - 1
    batch = data.batch([index], np.random.default_rng(0))
    # Contrast and brightness change with every draw; the photo is of one colour.
    assert batch.pixels.float().std((1, 2)).max() == 0
    assert batch.weight[0, :2].tolist() == pytest.approx([0.3, 0.5])
    assert encode.text(batch.text[0, 1].numpy()) == "a lamp"
    monkeypatch.setattr(samples, "_PASTED", 1.0)
    random = np.random.default_rng(0)
    texts = set()
    for _ in range(10):
        batch = data.batch([index, 0], random)
        assert batch.pixels[0].float().std() > 1
        assert batch.weight[0, 0] == 0
        texts |= {encode.text(vector) for vector in batch.text[0, 1:].numpy()}
        # What people were told about a photo is about that photo.
        assert batch.pixels[1].float().std((0, 1)).max() == 0
        assert batch.weight[1].tolist() == [1, 1, 1, 1]
    assert any(text.startswith("thing ") for text in texts)
    assert np.array_equal(photo.pixels, np.full((64, 64, 3), 77))


# Detections


class Watcher:
    """A detector that finds what the photo's first pixel says, and counts."""

    def __init__(self):
        self.looked = 0

    def detect(self, photo):
        self.looked += 1
        return [Detection("dog", 0.5, (0.0, 0.0, 0.25, float(photo[0, 0, 0]) / 10))]


def test_each_photo_is_looked_at_once(tmp_path):
    watcher, cache, read = Watcher(), tmp_path / "objects.json", []

    def photo(number):
        def load():
            read.append(number)
            return np.full((2, 2, 3), number, np.uint8)

        return load

    first = detect_all(watcher, {"s/1": photo(1), "s/2": photo(2)}, cache)
    assert first["s/2"] == [Detection("dog", 0.5, (0.0, 0.0, 0.25, 0.2))]
    kept = cache.read_bytes()
    # Known photos are neither read nor looked at, and the file stays.
    again = detect_all(watcher, {"s/2": photo(2)}, cache)
    assert again == {"s/2": first["s/2"]}
    assert cache.read_bytes() == kept
    more = detect_all(watcher, {"s/2": photo(2), "s/3": photo(3)}, cache)
    assert more.keys() == {"s/2", "s/3"}
    assert read == [1, 2, 3]
    assert watcher.looked == 3
    assert set(json.loads(cache.read_text())) == {"s/1", "s/2", "s/3"}
