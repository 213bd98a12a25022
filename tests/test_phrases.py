"""Texts with boxes: cells, tables, splits, and what is refused."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from salgan_edge.errors import DataError
from salgan_edge.gaze.folder import split_names
from salgan_edge.gaze.phrases import Phrase, PhraseSet, format_boxes, mirrored, parse_boxes, wordings
from salgan_edge.images import write_image

LABELS = ["set", "image", "kind", "texts", "boxes"]


def write(path, *rows, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(rows)
    return path


def photos(folder, *names, suffix=".jpg"):
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name in names:
        write_image(folder / "images" / f"{name}{suffix}", np.zeros((6, 8, 3), np.uint8))


# Cells


def test_boxes_are_read_and_written():
    boxes = parse_boxes(" 0.1,0.2,0.5,0.6 ; 0,0,1,1; ")
    assert boxes == ((0.1, 0.2, 0.5, 0.6), (0.0, 0.0, 1.0, 1.0))
    assert parse_boxes(format_boxes(boxes)) == boxes
    assert parse_boxes("") == parse_boxes(" ; ") == ()
    assert parse_boxes("0.5,0.1,0.5,0.2") == ((0.5, 0.1, 0.5, 0.2),)


@pytest.mark.parametrize(
    "cell", ["0.1,0.2,0.5", "a,b,c,d", "0.5,0,0.4,1", "0,0.5,1,0.4", "-0.1,0,1,1", "0,0,1,1.01", "0,0,1,nan"]
)
def test_boxes_that_are_none(cell):
    with pytest.raises(ValueError, match="box '"):
        parse_boxes(cell)


def test_area():
    assert Phrase("s/a", "noun", ("x",), ((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 0.6))).area == pytest.approx(0.3)
    assert Phrase("s/a", "noun", ("x",), ((0, 0, 1, 1), (0, 0, 1, 1))).area == 1
    assert Phrase("s/a", "noun", ("x",), ()).area == 1


def test_left_and_right_change_places():
    assert mirrored("Left of the right door") == "Right of the left door"
    assert mirrored("the bright leftovers") == "the bright leftovers"
    text = "the cup on the left, right of the plate"
    assert mirrored(mirrored(text)) == text


def test_wordings_each_once():
    phrases = [Phrase("s/a", "noun", ("a", "b"), ()), Phrase("s/b", "noun", ("b", "c"), ())]
    assert wordings(phrases) == ["a", "b", "c"]


# Tables


def test_labels_of_several_sets(tmp_path):
    photos(tmp_path / "one", "1002", suffix=".JPG")
    photos(tmp_path / "phrases" / "two", "x.y", suffix=".png")
    table = write(
        tmp_path / "phrases" / "labels.csv",
        LABELS,
        ["one", "1002", "noun", "a cup / the mug / ", "0,0,0.5,0.5"],
        ["two", "x.y.png", "rel", "the cup on the left", ""],
        encoding="utf-8-sig",
    )
    phrases = PhraseSet(table)
    assert phrases.name == "labels"
    assert phrases.phrases == [
        Phrase("one/1002", "noun", ("a cup", "the mug"), ((0, 0, 0.5, 0.5),)),
        Phrase("two/x.y", "rel", ("the cup on the left",), ()),
    ]
    assert phrases.file("one/1002").name == "1002.JPG"
    assert phrases.image("two/x.y").shape == (6, 8, 3)
    assert set(phrases.select()) == {"one/1002", "two/x.y"}


def test_photos_in_a_folder_of_their_own(tmp_path):
    photos(tmp_path / "data" / "phrases" / "one", "a")
    table = write(tmp_path / "here" / "labels.csv", LABELS, ["one", "a", "noun", "a cup", ""])
    with pytest.raises(DataError, match="line 2: no file of photo one/a"):
        PhraseSet(table)
    assert PhraseSet(table, tmp_path / "data").phrases[0].photo == "one/a"


def test_a_table_in_the_current_folder(tmp_path, monkeypatch):
    photos(tmp_path / "one", "a")
    write(tmp_path / "phrases" / "labels.csv", LABELS, ["one", "a", "noun", "a cup", ""])
    monkeypatch.chdir(tmp_path / "phrases")
    from pathlib import Path

    assert PhraseSet(Path("labels.csv")).phrases[0].photo == "one/a"


def test_a_single_folder(tmp_path):
    photos(tmp_path / "ccp", "0001")
    write(
        tmp_path / "ccp" / "phrases.csv",
        ["image", "phrase", "boxes", "kind", "more"],
        ["0001.jpg", "a blouse", "0.1,0.1,0.2,0.2", "part", "x"],
    )
    phrases = PhraseSet(tmp_path / "ccp")
    assert phrases.name == "ccp"
    with pytest.raises(DataError, match=r"cannot read .*phrases\.csv"):
        PhraseSet(tmp_path)
    assert phrases.phrases == [Phrase("ccp/0001", "part", ("a blouse",), ((0.1, 0.1, 0.2, 0.2),))]


# Splits


def test_splits_follow_the_names_of_all_photos(tmp_path):
    names = [f"{n:02d}" for n in range(20)]
    photos(tmp_path / "one", *names)
    rows = [["one", name, "noun", text, ""] for name in names[:12] for text in ("a cup", "a hat")]
    phrases = PhraseSet(write(tmp_path / "labels.csv", LABELS, *rows))
    # Photos without a text have their place in the split too.
    assert phrases.split == {f"one/{name}": split for name, split in split_names(names).items()}
    chosen = [phrases.select(split) for split in ("train", "validation", "test")]
    assert sorted(photo for part in chosen for photo in part) == [f"one/{name}" for name in names[:12]]
    assert all(len(texts) == 2 for part in chosen for texts in part.values())
    assert phrases.select("train", "validation") == {
        photo: texts for photo, texts in phrases.select().items() if phrases.split[photo] != "test"
    }


def test_a_gaze_folder_decides(tmp_path):
    gaze = [f"{n:012d}" for n in range(20)]
    both = gaze[:4]
    photos(tmp_path / "gaze", *gaze)
    given = [["image", "condition", "text", "split"], *([name, "pure", "", ""] for name in gaze[:-1])]
    write(tmp_path / "gaze" / "pairs.csv", *given, [gaze[-1], "pure", "", "test"])
    photos(tmp_path / "more", *both, "only here")
    rows = [["gaze", name, "noun", "a cup", ""] for name in gaze] + [
        ["more", name, "noun", "a hat", ""] for name in both
    ]
    phrases = PhraseSet(write(tmp_path / "labels.csv", LABELS, *rows))
    expected = {**split_names(gaze[:-1]), gaze[-1]: "test"}
    assert {name: phrases.split[f"gaze/{name}"] for name in gaze} == expected
    # The same photo of COCO in another set is in the same split.
    assert {name: phrases.split[f"more/{name}"] for name in both} == {name: expected[name] for name in both}
    assert phrases.split["more/only here"] in {"train", "validation", "test"}


def test_whole_scenes_are_split_apart(tmp_path):
    names = [f"{n:02d}" for n in range(20)]
    photos(tmp_path / "gaze", *names)
    rows = [
        [name, condition, ""]
        for name in names
        for condition in ("pure", "whole" if name < "10" else "general")
    ]
    write(tmp_path / "gaze" / "pairs.csv", ["image", "condition", "text"], *rows)
    labels = write(tmp_path / "labels.csv", LABELS, *(["gaze", name, "noun", "a cup", ""] for name in names))
    split = PhraseSet(labels).split
    expected = {**split_names(names[:10]), **split_names(names[10:])}
    assert split == {f"gaze/{name}": part for name, part in expected.items()}


# What is refused


def test_wrong_lines_are_listed(tmp_path):
    photos(tmp_path / "one", "a")
    table = write(
        tmp_path / "labels.csv",
        LABELS,
        ["one", "a", "noun", "a cup", "0,0,1"],
        ["one", "a", "noun", " / ", "0,0,1,1"],
        ["one", "b", "noun", "a cup", "0,0,1,1"],
        ["none", "a", "noun", "a cup", "0,0,1,1"],
        ["one", "a", "noun", "a cup", "0,0,1,1"],
        ["one", "a", "noun", "a cup", "0,0,2,1"],
    )
    with pytest.raises(DataError) as refused:
        PhraseSet(table)
    message = str(refused.value)
    assert message.startswith(f"{table} cannot be used: line 2: box '0,0,1' is not x0,y0,x1,y1")
    assert "line 3 has no text; line 4: no file of photo one/b and 2 more" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot read .*labels\.csv"),
        (b"", "has no rows"),
        (b"set,image,kind,texts,boxes\n", "has no rows"),
        (
            b"image,phrase\na,b\n",
            "has the columns image, phrase: set, image, kind, texts, boxes or image, phrase",
        ),
        (b"set,image\xff\na,b\n", "a table in UTF-8 was expected"),
    ],
)
def test_tables_that_are_none(tmp_path, content, message):
    if content is not None:
        (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        PhraseSet(tmp_path / "labels.csv")


def test_a_gaze_table_without_its_columns(tmp_path):
    photos(tmp_path / "one", "a")
    write(tmp_path / "one" / "pairs.csv", ["photo", "text"], ["a", "b"])
    table = write(tmp_path / "labels.csv", LABELS, ["one", "a", "noun", "a cup", ""])
    with pytest.raises(DataError, match=r"pairs\.csv has the columns photo, text: image and condition"):
        PhraseSet(table)


def test_foreign_tables_nearby(tmp_path):
    """A table of gaze that merely lies beside the data is none of its business; one of the data has to be right."""
    photos(tmp_path / "mine" / "one", "a")
    table = write(tmp_path / "mine" / "labels.csv", LABELS, ["one", "a", "noun", "a cup", ""])
    write(tmp_path / "other" / "pairs.csv", ["photo", "text"], ["a", "b"])
    assert PhraseSet(table, tmp_path / "mine").select() == PhraseSet(table).select()
    (tmp_path / "other").rename(tmp_path / "mine" / "other")
    with pytest.raises(DataError, match=r"pairs\.csv has the columns"):
        PhraseSet(table, tmp_path / "mine")


# The column split

SPLIT_COLUMNS = ["image", "phrase", "boxes", "kind", "split"]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["later", ""], "line 2: split 'later' is none of train, validation, test"),
        (["train", "test"], "line 3: photo mine/a is in test and in train"),
    ],
)
def test_wrong_splits(tmp_path, splits, message):
    photos(tmp_path / "mine", "a")
    rows = [["a.jpg", "a cup", "", "noun", split] for split in splits]
    write(tmp_path / "mine" / "phrases.csv", SPLIT_COLUMNS, *rows)
    with pytest.raises(DataError, match=message):
        PhraseSet(tmp_path / "mine")


def test_split_column_wins_over_the_rule(tmp_path):
    names = [str(n) for n in range(20)]
    photos(tmp_path / "mine", *names)
    rows = [[f"{name}.jpg", "a cup", "", "noun", "test" if int(name) < 8 else ""] for name in names]
    write(tmp_path / "mine" / "phrases.csv", SPLIT_COLUMNS, *rows)
    split = PhraseSet(tmp_path / "mine").split
    expected = {**dict.fromkeys(names[:8], "test"), **split_names(names[8:])}
    assert split == {f"mine/{name}": part for name, part in expected.items()}
