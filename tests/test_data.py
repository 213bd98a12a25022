"""Packed gaze folders: reading, checking, and splits that no photo crosses."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from salgan_edge.errors import DataError, ImageError
from salgan_edge.gaze.folder import (
    COLUMNS,
    SPLIT_ID,
    SPLITS,
    DatasetInfo,
    GazeFolder,
    photos,
    split_names,
    split_photos,
)
from salgan_edge.images import write_image

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
TEXTS = {"pure": "", "whole": "a street", "general": "a room", "salient": "a dog", "nonsalient": "a lamp"}


def write_folder(folder, rows, *, fixations=None, images=None, columns=COLUMNS, size=(48, 64)):
    """A packed folder of the given rows; fixations of every pair are (3, 2), (5, 4) unless given."""
    folder.mkdir(exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    for name in {row["image"] for row in rows} if images is None else images:
        write_image(folder / "images" / f"{name}.jpg", np.zeros((*size, 3), np.uint8))
    if fixations is None:
        fixations = {
            f"{row['image']}_{row['condition']}": np.array([[3, 2], [5, 4]], np.uint16) for row in rows
        }
    np.savez(folder / "fixations.npz", **fixations)
    return folder


def row(image="a", condition="pure", text=None, width=64, height=48, fixations=2, **more):
    text = TEXTS.get(condition, "") if text is None else text
    return {
        "image": image, "condition": condition, "text": text, "width": width, "height": height,
        "fixations": fixations, **more,
    }  # fmt: skip


def refusal(folder):
    with pytest.raises(DataError) as refused:
        GazeFolder(folder)
    message = str(refused.value)
    assert "\n" not in message
    return message


# Splits


def random_names(random, count):
    letters = list("0123456789abcdefghijklmnopqrstuvwxyz_-. äß犬")
    return {"".join(random.choice(letters, random.integers(1, 16))).strip() or "x" for _ in range(count)}


@pytest.mark.parametrize("seed", range(40))
def test_no_photo_crosses_a_split(seed):
    """Random names, conditions, orders and prescribed splits: a photo has one split, whatever is asked."""
    random = np.random.default_rng(seed)
    names = sorted(random_names(random, int(random.integers(1, 120))))
    kinds = list(TEXTS)
    conditions = {
        name: {"pure", *random.choice(kinds, random.integers(0, len(kinds)), replace=False)} for name in names
    }
    given = {name: str(random.choice(SPLITS)) for name in names if random.random() < seed % 4 / 6}
    split = split_photos(conditions, given)
    assert set(split) == set(names)
    assert set(split.values()) <= set(SPLITS)
    assert {name: split[name] for name in given} == given
    # The order in which photos are met, and conditions that are not `whole`, change nothing.
    order = [str(name) for name in random.permutation(names)]
    fewer = {name: {"whole"} & conditions[name] for name in order}
    assert split_photos(fewer, given) == split
    # Every group without prescribed photos is divided 70/15/15 to the nearest photo.
    for whole in (True, False):
        group = [name for name in names if name not in given and ("whole" in conditions[name]) is whole]
        for part in ("validation", "test"):
            assert sum(split[name] == part for name in group) == round(0.15 * len(group))


@pytest.mark.parametrize("seed", range(5))
def test_no_photo_crosses_a_split_when_read(tmp_path, seed):
    random = np.random.default_rng(seed)
    names = [name.replace(".", "") or "x" for name in random_names(random, 25)]
    prescribed = {name: str(random.choice(["", *SPLITS])) for name in names}
    rows = [
        row(name, str(kind), split=prescribed[name])
        for name in set(names)
        for kind in random.choice(list(TEXTS), random.integers(1, 6), replace=False)
    ]
    random.shuffle(rows)
    folder = GazeFolder(write_folder(tmp_path / "set", rows, columns=(*COLUMNS, "split")))
    selected = {part: {pair.image for pair in folder.select(part)} for part in SPLITS}
    assert sum(len(found) for found in selected.values()) == len(set(names))
    assert set.union(*selected.values()) == set(names)
    assert sum(len(folder.select(part)) for part in SPLITS) == len(rows)
    for name, split in prescribed.items():
        if split:
            assert name in selected[split]


def test_rule_of_the_released_model():
    """Photos with a text for the whole scene are divided apart from the others."""
    conditions = {f"{n:03d}": {"pure", "whole" if n % 2 else "general"} for n in range(40)}
    split = split_photos(conditions)
    odd = split_names(name for name in conditions if int(name) % 2)
    assert {name: split[name] for name in odd} == odd
    assert SPLIT_ID == "sha256-70/15/15-v1"


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "counts", "digest"),
    [
        ("sjtu_tis", [358, 76, 76], "337deb19bd55728d"),
        ("osie", [350, 75, 75], "b7f0253950a89f8e"),
        ("scene", [350, 75, 75], "48509224eb18be6e"),
    ],
)
def test_splits_of_the_released_model_stay(name, counts, digest):
    if not (SHARED / name).is_dir():
        pytest.skip("no ../shared/data")
    folder = GazeFolder(SHARED / name)
    assert [len(photos(folder.select(part))) for part in SPLITS] == counts
    listed = json.dumps(sorted({pair.image: pair.split for pair in folder.pairs}.items()))
    assert hashlib.sha256(listed.encode()).hexdigest().startswith(digest)
    assert folder.split_id == SPLIT_ID


def test_split_column_wins(tmp_path):
    rows = [
        row("a", split="test"),
        row("a", "whole", split="test"),
        row("b", split=""),
        row("c", split="train"),
    ]
    folder = GazeFolder(write_folder(tmp_path / "set", rows, columns=(*COLUMNS, "split")))
    assert {pair.image: pair.split for pair in folder.pairs} == {"a": "test", "b": "train", "c": "train"}
    assert folder.split_id == "given in pairs.csv"
    crossing = [row("a", split="test"), row("a", "whole", split="train"), row("b", split="dev")]
    message = refusal(write_folder(tmp_path / "set", crossing, columns=(*COLUMNS, "split")))
    assert "photos in two splits (1): a" in message
    assert "splits other than train, validation, test (1): b_pure 'dev'" in message


# Reading


def test_folder_is_read(tmp_path):
    rows = [row("a"), row("a", "salient", "  a dog, lying "), row("b", width=128, height=96)]
    write_folder(tmp_path / "set", rows)
    write_image(tmp_path / "set" / "images" / "b.PNG", np.full((48, 64, 3), 7, np.uint8))
    (tmp_path / "set" / "images" / "b.jpg").unlink()
    table = tmp_path / "set" / "pairs.csv"
    # Spreadsheet programs put a byte order mark first.
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    folder = GazeFolder(tmp_path / "set")
    assert folder.name == "set"
    assert [pair.key for pair in folder.pairs] == ["a_pure", "a_salient", "b_pure"]
    assert folder.pairs[1].text == "a dog, lying"
    assert folder.image("b").tolist() == np.full((48, 64, 3), 7).tolist()
    # The middle of pixel (3, 2) of 64x48 and of 128x96.
    assert folder.fixations(folder.pairs[0])[0].tolist() == [3.5 / 64, 2.5 / 48]
    assert folder.fixations(folder.pairs[2])[0].tolist() == [3.5 / 128, 2.5 / 96]
    assert folder.fixation_map(folder.pairs[0], (48, 64))[2, 3] == 1
    with pytest.raises(ImageError, match="does not exist"):
        folder.image("nobody")


def test_maps_alone_and_fixations_alone(tmp_path):
    """Each pair needs one of the two; without fixations there are none, without a map they are blurred."""
    rows = [row("a", fixations=0), row("b"), row("c")]
    two = {f"{name}_pure": np.array([[31, 23]], np.uint16) for name in "bc"}
    write_folder(tmp_path / "set", rows, fixations=two)
    published = np.zeros((48, 64), np.uint8)
    published[4, 5] = 51
    for name in "ab":
        write_image(tmp_path / "set" / "maps" / f"{name}_pure.png", published)
    folder = GazeFolder(tmp_path / "set")
    a, b, c = folder.pairs
    assert [folder.has_fixations(pair) for pair in (a, b, c)] == [False, True, True]
    assert [folder.has_map(pair) for pair in (a, b, c)] == [True, True, False]
    assert folder.fixations(a).shape == (0, 2)
    assert folder.fixation_map(a, (6, 8)).sum() == 0
    assert folder.saliency_map(a)[4, 5] == 1
    assert folder.saliency_map(b)[4, 5] == 1
    assert np.unravel_index(folder.saliency_map(c).argmax(), (240, 320)) == (117, 157)

    # No file of fixations at all: maps for every pair are needed.
    (tmp_path / "set" / "fixations.npz").unlink()
    assert "keys missing from fixations.npz (2): b_pure, c_pure" in refusal(tmp_path / "set")
    write_folder(tmp_path / "set", [row(name, fixations=0) for name in "abc"], fixations=two)
    (tmp_path / "set" / "fixations.npz").unlink()
    assert "pairs with neither fixations nor a map (1): c_pure" in refusal(tmp_path / "set")


def test_blur_is_the_data_sets_own(tmp_path):
    write_folder(
        tmp_path / "set", [row("a", width=320, height=240)], fixations={"a_pure": np.array([[160, 120]])}
    )
    (tmp_path / "set" / "dataset.json").write_text(
        '{"name": "Mine", "blur_degree_share": 0.05, "viewers": 9}'
    )
    folder = GazeFolder(tmp_path / "set")
    assert folder.name == "set"
    assert folder.info == DatasetInfo("Mine", blur_degree_share=0.05)
    human = folder.saliency_map(folder.pairs[0])
    # One sigma, 0.05 of 320 pixels, from the peak.
    assert human[120, 160] == 1
    assert human[120, 176] == pytest.approx(np.exp(-0.5), abs=0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "no JSON object"),
        ('{"name": 3}', "name is 3, a text was expected"),
        ('{"blur_degree_share": "wide"}', "a number was expected"),
        ('{"blur_degree_share": true}', "a number was expected"),
        ('{"blur_degree_share": 24}', "a share of the width"),
    ],
)
def test_wrong_dataset_json(tmp_path, text, message):
    write_folder(tmp_path / "set", [row()])
    (tmp_path / "set" / "dataset.json").write_text(text)
    assert message in refusal(tmp_path / "set")


def test_dataset_json_round_trip(tmp_path):
    info = DatasetInfo("Meins", "CC BY", "a paper → 2024", 0.04)
    info.write(tmp_path / "dataset.json")
    assert DatasetInfo.read(tmp_path / "dataset.json") == info


# Refusals


def test_everything_wrong_is_told_at_once(tmp_path):
    rows = [
        row("a"), row("a"), row("b", "salient", " "), row("c", width="wide"), row("d", text="look there"),
        row("", "pure"), row("f", fixations=4), row("g"), row("h"), row("h", "whole", width=65),
    ]  # fmt: skip
    rows += [row(f"n{n}") for n in range(12)]
    fixations = {f"{r['image']}_{r['condition']}": np.array([[3, 2]]) for r in rows if r["image"] != "f"}
    fixations["g_pure"] = np.array([[3, 48]])
    fixations["h_pure"] = np.array([3, 4])
    write_folder(tmp_path / "set", rows, fixations=fixations, images=list("abcdfgh"))
    (tmp_path / "set" / "images" / "g.png").write_bytes((tmp_path / "set" / "images" / "g.jpg").read_bytes())
    message = refusal(tmp_path / "set")
    for part in (
        "rows that occur twice (1): a_pure",
        "conditions that need a text and have none (1): b_salient",
        "rows whose width or height is not a positive whole number (1): c_pure",
        "free viewing (pure) with a text (1): d_pure",
        "rows without an image or a condition (1): pure",
        "keys missing from fixations.npz (1): f_pure",
        "pairs with fixations outside the photo (1): g_pure",
        "photos with several files in images/ (1): g",
        "fixations that are not whole numbers of shape (n, 2) (1): h_pure",
        "photos of two sizes (1): h",
        "photos without a file in images/ (12): n0, n1, n2 and 9 more",
        "salgan-edge data prepare",
    ):
        assert part in message


@pytest.mark.parametrize("edge", [[64, 0], [0, 48], [-1, 0], [0, -1]])
def test_fixations_must_lie_inside(tmp_path, edge):
    inside = {"a_pure": np.array([[0, 0], [63, 47]])}
    GazeFolder(write_folder(tmp_path / "set", [row()], fixations=inside))
    outside = {"a_pure": np.array([[0, 0], edge])}
    assert "outside the photo (1): a_pure" in refusal(
        write_folder(tmp_path / "set", [row()], fixations=outside)
    )


def test_table_that_is_none(tmp_path):
    write_folder(tmp_path / "set", [row()], columns=("image", "text", "width"))
    assert "has no column condition, height, fixations: it has image, text, width" in refusal(
        tmp_path / "set"
    )
    write_folder(tmp_path / "set", [])
    assert "has no rows" in refusal(tmp_path / "set")
    (tmp_path / "set" / "pairs.csv").write_bytes(b"image,\xff")
    assert "UTF-8 was expected" in refusal(tmp_path / "set")


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda _: b"", lambda _: b"x,y", lambda _: None])
def test_damaged_fixations(tmp_path, damage):
    file = write_folder(tmp_path / "set", [row()]) / "fixations.npz"
    data = damage(file.read_bytes())
    if data is None:
        with file.open("wb") as stream:
            np.save(stream, np.zeros((2, 2)))
    else:
        file.write_bytes(data)
    assert "fixations.npz is damaged or not an npz file" in refusal(tmp_path / "set")


def test_missing_folder(tmp_path):
    assert "nowhere is not a folder" in refusal(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "has no pairs.csv, fixations.npz, images" in refusal(tmp_path / "empty")


# The command


def test_show(tmp_path, run):
    rows = [row(f"{n}", kind) for n in range(10) for kind in ("pure", "salient")]
    write_folder(tmp_path / "set", rows)
    code, out, _ = run("data", "show", tmp_path / "set")
    assert code == 0
    assert [line.split() for line in out.splitlines()[2:7]] == [
        ["photos", "pairs", "pure", "salient", "fixations"],
        ["train", "6", "12", "6", "6", "24"],
        ["validation", "2", "4", "2", "2", "8"],
        ["test", "2", "4", "2", "2", "8"],
        ["all", "10", "20", "10", "10", "40"],
    ]
    assert "salient: a dog | a dog" in out
    code, out, _ = run("data", "show", tmp_path / "set", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["all"]["pairs"] == 20
    assert found["splits"]["test"]["conditions"] == {"pure": 2, "salient": 2}
    assert found["problems"] == []


def test_show_checks_every_file(tmp_path, run):
    write_folder(tmp_path / "set", [row("a"), row("b"), row("c"), row("d")])
    write_image(tmp_path / "set" / "images" / "a.jpg", np.zeros((64, 48, 3), np.uint8))
    (tmp_path / "set" / "images" / "b.jpg").write_bytes(b"no image")
    write_image(tmp_path / "set" / "maps" / "c_pure.png", np.zeros((48, 64), np.uint8))
    write_image(tmp_path / "set" / "maps" / "d_pure.png", np.full((64, 48), 9, np.uint8))
    code, out, err = run("data", "show", tmp_path / "set")
    assert code == 1
    assert "photos" in out
    for part in (
        "images of another shape than width and height say (1): a",
        "images that cannot be read (1): b",
        "maps that are unreadable or empty (1): c_pure",
        "maps of another shape than width and height say (1): d_pure",
    ):
        assert part in err
    code, out, err = run("data", "show", tmp_path / "set", "--json")
    assert code == 1
    assert len(json.loads(out)["problems"]) == 4
    assert run("data", "show", tmp_path / "none")[0] == 1
    assert run("data", "show")[0] == 2
