"""`salgan-edge data prepare` and `show` on tiny sets of texts with boxes, one for each form."""

from __future__ import annotations

import csv
import json
import os
import pickle

import numpy as np
import pytest
from packing import left_behind, picture, refused, run_prepare, write_table
from salgan_edge.train.data.named import find_phrase_sets, named_photos

from salgan_edge.errors import DataError
from salgan_edge.gaze.folder import split_names
from salgan_edge.gaze.prepare import BoxForm, BoxUnit, LayoutName, PrepareOptions, SplitChoice
from salgan_edge.gaze.prepare.build import detect, prepare
from salgan_edge.images import write_image

WIDTH, HEIGHT = 100, 50


def photo(path, seed=0, size=(HEIGHT, WIDTH)):
    write_image(path, picture(seed, size))


def table_of(folder):
    with (folder / "phrases.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rows_of(folder):
    """Rows as image, phrase, boxes, kind."""
    return [(row["image"], row["phrase"], row["boxes"], row["kind"]) for row in table_of(folder)]


def splits_of(folder):
    return {row["image"]: row["split"] for row in table_of(folder)}


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


# COCO

IMAGES = [
    {"id": 1, "file_name": "000000000001.jpg", "width": WIDTH, "height": HEIGHT},
    {"id": 2, "file_name": "000000000002.jpg", "width": WIDTH, "height": HEIGHT},
]
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 8, "name": "umbrella"}, {"id": 9, "name": "scissors"}]


def annotation(number, image, category, bbox, **other):
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, **other}


@pytest.fixture
def coco(tmp_path):
    source = tmp_path / "coco"
    for n in (1, 2):
        photo(source / "photos" / f"{n:012d}.jpg", 40 * n)
    annotations = [
        annotation(1, 1, 7, [10, 5, 20, 10], iscrowd=0, segmentation=[[1, 2, 3]]),
        annotation(2, 1, 7, [50, 25, 50, 25], iscrowd=1, segmentation={"counts": [1], "size": [1, 1]}),
        annotation(3, 1, 8, [0, 0, 50, 50]),
        annotation(4, 2, 9, [0, 10, 10, 10]),
    ]
    about = {"description": "Tiny", "url": "http://example.org"}
    content = {"info": about, "images": IMAGES, "annotations": annotations, "categories": CATEGORIES}
    write_json(source / "annotations" / "instances_all.json", content)
    return source


COCO_ROWS = [
    ("000000000001", "a dog", "0.100,0.100,0.300,0.300;0.500,0.500,1.000,1.000", "noun"),
    ("000000000001", "an umbrella", "0.000,0.000,0.500,1.000", "noun"),
    ("000000000002", "scissors", "0.000,0.200,0.100,0.400", "noun"),
]


def test_coco_instances(coco, tmp_path):
    folder, lines = run_prepare(coco, tmp_path / "out", strict=True)
    assert rows_of(tmp_path / "out") == COCO_ROWS
    assert lines[0] == "layout coco"
    assert "note: groups that one box holds (iscrowd) (1): dog in 000000000001.jpg" in lines
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["name"] == "Tiny"
    assert left_behind(tmp_path / "out") == ["dataset.json", "images", "phrases.csv"]
    # What training makes of it.
    assert [phrase.texts for phrase in folder.phrases] == [("a dog",), ("an umbrella",), ("scissors",)]
    assert folder.phrases[0].boxes == ((0.1, 0.1, 0.3, 0.3), (0.5, 0.5, 1, 1))
    assert folder.image("out/000000000001").shape == (HEIGHT, WIDTH, 3)
    assert set(folder.split) == {"out/000000000001", "out/000000000002"}
    assert folder.given == {}
    sets = find_phrase_sets(tmp_path)
    assert [table.name for table in sets] == ["out"]
    named, files = named_photos(sets, ["train", "validation", "test"])
    assert [thing.texts for thing in named["out/000000000001"]] == [("a dog",), ("an umbrella",)]
    assert files["out/000000000001"] == tmp_path / "out" / "images" / "000000000001.jpg"


def test_coco_file_in_place_of_its_folder(coco, tmp_path):
    run_prepare(coco / "annotations" / "instances_all.json", tmp_path / "out", strict=True)
    assert rows_of(tmp_path / "out") == COCO_ROWS


def test_coco_files_of_several_splits(tmp_path):
    """The same file name in two folders is two photos."""
    source = tmp_path / "mine"
    for n, part in enumerate(("train", "val")):
        photo(source / part / "0001.jpg", 50 * n)
        image = {"id": 1, "file_name": "0001.jpg", "width": WIDTH, "height": HEIGHT}
        content = {
            "images": [image],
            "categories": CATEGORIES,
            "annotations": [annotation(1, 1, 7, [n, 0, 50, 50])],
        }
        write_json(source / "annotations" / f"instances_{part}2017.json", content)
    folder, _ = run_prepare(source, tmp_path / "out", strict=True)
    assert splits_of(tmp_path / "out") == {"train_0001": "train", "val_0001": "validation"}
    assert folder.split == {"out/train_0001": "train", "out/val_0001": "validation"}
    assert folder.given == folder.split
    # One of them alone says nothing about splits.
    run_prepare(source / "annotations" / "instances_val2017.json", tmp_path / "one", images=source / "val")
    assert "split" not in table_of(tmp_path / "one")[0]


def test_captions_go_with_boxes_only(coco, tmp_path, run):
    photo(coco / "photos" / "000000000003.jpg", 130)
    third = {"id": 3, "file_name": "000000000003.jpg", "width": WIDTH, "height": HEIGHT}
    said = [(1, "A dog under\nan umbrella."), (1, "a black / white dog"), (3, "nothing with a box"), (1, " ")]
    content = {
        "images": [*IMAGES, third],
        "annotations": [
            {"id": n, "image_id": image, "caption": text} for n, (image, text) in enumerate(said)
        ],
    }
    write_json(coco / "annotations" / "captions_all.json", content)
    _, lines = run_prepare(coco, tmp_path / "out")
    captions = [row for row in rows_of(tmp_path / "out") if row[3] == "caption"]
    assert captions == [("000000000001", "A dog under an umbrella. / a black/white dog", "", "caption")]
    assert "note: photos with captions and no boxes, left out (1): 000000000003.jpg" in lines
    assert "left out: texts that are empty (1): 000000000001.jpg" in lines
    (coco / "annotations" / "instances_all.json").unlink()
    err = refused(run, coco)
    assert (
        "has nothing that can be packed: texts that are empty (1): 000000000001.jpg; photos with captions and no boxes, left out (2)"
        in err
    )
    assert not (tmp_path / "alone").exists()


def test_grounded_sentences(tmp_path):
    """MDETR's form: one image for each sentence, the words of a box by their places in it."""
    photo(tmp_path / "in" / "a.jpg")
    size = {"file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}
    first, second = "A man holds two red cups", "Some guy at a table"
    images = [
        {"id": 1, "caption": first, "dataset_name": "flickr", **size},
        {"id": 2, "caption": second, "dataset_name": "flickr", **size},
        {"id": 3, "caption": "the left cup", "dataset_name": "refcoco+", **size},
        {"id": 4, **size},
    ]
    annotations = [
        annotation(1, 1, 1, [0, 0, 50, 50], tokens_positive=[[0, 5]]),
        annotation(2, 1, 1, [50, 0, 10, 10], tokens_positive=[[12, 15], [20, 24]]),
        annotation(3, 1, 1, [70, 0, 10, 10], tokens_positive=[[12, 15], [20, 24]]),
        annotation(4, 2, 1, [0, 0, 50, 50], tokens_positive=[[0, 8]]),
        annotation(5, 2, 1, [0, 0, 50, 50], tokens_positive=[[0, 800]]),
        annotation(6, 2, 1, [0, 0, 50, 50], tokens_positive=[]),
        annotation(7, 3, 1, [50, 0, 10, 10], tokens_positive=[[9, 12]]),
        annotation(8, 4, 1, [0, 40, 100, 10], phrase="a  table"),
    ]
    categories = [{"id": 1, "name": "object"}]
    write_json(
        tmp_path / "in" / "g.json", {"images": images, "annotations": annotations, "categories": categories}
    )
    _, lines = run_prepare(tmp_path / "in", tmp_path / "out")
    assert rows_of(tmp_path / "out") == [
        ("a", "A man / Some guy", "0.000,0.000,0.500,1.000", "phrase"),
        ("a", "two cups", "0.500,0.000,0.600,0.200;0.700,0.000,0.800,0.200", "phrase"),
        ("a", "the left cup", "0.500,0.000,0.600,0.200", "phrase"),
        ("a", "a table", "0.000,0.800,1.000,1.000", "phrase"),
    ]
    assert "left out: annotations whose words are not in their sentence (2): 5 of a.jpg, 6 of a.jpg" in lines


def test_broken_annotations_are_counted(coco, tmp_path, run):
    content = json.loads((coco / "annotations" / "instances_all.json").read_text())
    content["images"] += [{"id": 3, "file_name": "gone.jpg"}, {"id": 4}]
    content["annotations"] += [
        annotation(10, 3, 7, [1, 1, 2, 2]),
        annotation(11, 3, 7, [1, 1, 2, 2]),
        annotation(12, 4, 7, [1, 1, 2, 2]),
        annotation(13, 99, 7, [1, 1, 2, 2]),
        annotation(14, 1, 7, [1, 1, 2]),
        annotation(15, 1, 7, [1, 1, float("nan"), 2]),
        annotation(16, 1, [7], [1, 1, 2, 2]),
        annotation(17, 2, 8, [200, 10, 20, 20]),
        annotation(18, 2, 7, [10, 10, 0, 5]),
        annotation(19, 2, 9, [90, 40, 40, 40]),
    ]
    write_json(coco / "annotations" / "instances_all.json", content)
    code, out, err = run("data", "prepare", coco, "-o", tmp_path / "out")
    assert code == 0
    for line in (
        "note: boxes that reach beyond the photo, clipped (1): scissors in 000000000002",
        "left out: photos without a file (1): gone.jpg",
        "left out: annotations of photos that the file does not list (2): 12, 13",
        "left out: annotations without a box of four numbers (2): 14 of 000000000001.jpg, 15 of 000000000001.jpg",
        "left out: annotations of categories that the file does not list (1): 16 of 000000000001.jpg",
        "left out: boxes outside the photo (1): an umbrella in 000000000002",
        "left out: boxes without an area (1): a dog in 000000000002",
    ):
        assert line in err.splitlines()
    scissors = ("000000000002", "scissors", "0.000,0.200,0.100,0.400;0.900,0.800,1.000,1.000", "noun")
    assert rows_of(tmp_path / "out") == [*COCO_ROWS[:2], scissors]
    assert out.splitlines()[2].split() == ["photos", "rows", "wordings", "distinct", "boxes"]
    assert out.splitlines()[6].split() == ["all", "2", "3", "3", "3", "5"]

    assert "error: --all-or-nothing, and these cannot be used: photos without a file" in refused(
        run, coco, "--all-or-nothing"
    )


def test_sizes_of_photos(coco, tmp_path):
    """A shrunk copy is the same photo; one of another shape is not, and its boxes would lie wrong."""
    photo(coco / "photos" / "000000000001.jpg", 0, (HEIGHT // 2, WIDTH // 2))
    photo(coco / "photos" / "000000000002.jpg", 0, (WIDTH, HEIGHT))
    _, lines = run_prepare(coco, tmp_path / "out")
    assert rows_of(tmp_path / "out") == COCO_ROWS[:2]
    assert (
        "left out: photos of another shape than the source says (1): 000000000002.jpg [50x100, not 100x50]"
        in lines
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [], "annotations": [}', "cannot read"),
        ('{"images": [], "annotations": {}}', "has no lists of images and annotations"),
        ('{"images": [3], "annotations": []}', "has no lists of images and annotations"),
        ('["images", "annotations"]', "has no lists of images and annotations"),
        ('{"images": [], "annotations": []}', "no text has a box"),
        ("[" * 100_000 + '"images" "annotations"', "cannot read"),
    ],
)
def test_wrong_json(tmp_path, run, content, message):
    photo(tmp_path / "in" / "a.jpg")
    (tmp_path / "in" / "a.json").write_text(content)
    assert message in refused(run, tmp_path / "in")


# RefCOCO


def reference(number, image, thing, split, *sentences):
    return {
        "ref_id": number, "image_id": image, "ann_id": thing, "split": split, "category_id": 1,
        "file_name": f"COCO_train2014_{image:012d}_{thing}.jpg", "sent_ids": [1, 2],
        "sentences": [{"sent": text, "raw": text.upper(), "sent_id": n, "tokens": text.split()} for n, text in enumerate(sentences)],
    }  # fmt: skip


@pytest.fixture
def refcoco(tmp_path):
    source = tmp_path / "refcoco"
    names = {n: f"COCO_train2014_{n:012d}.jpg" for n in (1, 2, 3, 4)}
    for n, name in names.items():
        if n != 4:
            photo(tmp_path / "train2014" / name, 30 * n)
    content = {
        "images": [
            {"id": n, "file_name": name, "width": WIDTH, "height": HEIGHT} for n, name in names.items()
        ],
        "annotations": [annotation(10 + n, n, 1, [10 * n, 0, 10, 50]) for n in names]
        + [annotation(21, 1, 1, [0, 0, 10, 10])],
        "categories": CATEGORIES,
    }
    write_json(source / "instances.json", content)
    references = [
        reference(1, 1, 11, "train", "left dog", "the dog that sits"),
        reference(2, 1, 21, "val", "small dog"),
        reference(3, 2, 12, "val", "man"),
        reference(4, 3, 13, "testB", "cup", "cup", ""),
        reference(5, 4, 14, "train", "nowhere"),
        reference(6, 1, 99, "train", "no box"),
        reference(7, 9, 11, "train", "no photo"),
        reference(8, 1, 11, "other", "no split"),
    ]
    # As published: Python 2 wrote them.
    (source / "refs(unc).p").write_bytes(pickle.dumps(references, protocol=0))
    return source


def test_references(refcoco, tmp_path):
    folder, lines = run_prepare(refcoco, tmp_path / "out", images=tmp_path / "train2014")
    # Named by COCO's number, by which other sets know the photos.
    assert rows_of(tmp_path / "out") == [
        ("000000000001", "left dog / the dog that sits", "0.100,0.000,0.200,1.000", "expression"),
        ("000000000001", "small dog", "0.000,0.000,0.100,0.200", "expression"),
        ("000000000002", "man", "0.200,0.000,0.300,1.000", "expression"),
        ("000000000003", "cup", "0.300,0.000,0.400,1.000", "expression"),
    ]
    given = {"000000000001": "validation", "000000000002": "validation", "000000000003": "test"}
    assert splits_of(tmp_path / "out") == given
    assert folder.split == {f"out/{name}": split for name, split in given.items()}
    for line in (
        "layout refcoco",
        "note: photos that the set divides between splits, all held back (1): COCO_train2014_000000000001.jpg",
        "left out: photos without a file (1): COCO_train2014_000000000004.jpg",
        "left out: references without a box in instances.json (1): reference 6",
        "left out: references to photos that instances.json does not list (1): reference 7",
        "left out: references without a split (1): reference 8",
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("split", "expected"),
    [(SplitChoice.rule, None), (SplitChoice.train, {"train"}), (SplitChoice.validation, {"validation"})],
)
def test_splits_by_option(refcoco, tmp_path, split, expected):
    folder, _ = run_prepare(refcoco, tmp_path / "out", images=tmp_path / "train2014", split=split)
    if expected is None:
        assert "split" not in table_of(tmp_path / "out")[0]
        by_rule = split_names(f"{n:012d}" for n in (1, 2, 3))
        assert folder.split == {f"out/{name}": part for name, part in by_rule.items()}
    else:
        assert set(folder.split.values()) == expected


def test_gaze_decides_for_photos_of_both(refcoco, tmp_path):
    """A photo that a gaze set tests on is not trained on by another set."""
    rows = [["image", "condition", "text", "width", "height", "split"]]
    write_table(tmp_path / "gaze" / "pairs.csv", [*rows, ["000000000002", "pure", "", 100, 50, "test"]])
    folder, _ = run_prepare(refcoco, tmp_path / "out", images=tmp_path / "train2014")
    assert folder.split["out/000000000002"] == "test"
    assert folder.split["out/000000000001"] == "validation"


class Evil:
    def __reduce__(self):
        return os.system, ("touch owned",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_run_nothing(refcoco, tmp_path, run, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    refs = refcoco / "refs(unc).p"
    refs.write_bytes(pickle.dumps([{"sentences": [Evil()], "ann_id": 1}], protocol=protocol))
    err = refused(run, refcoco)
    assert f"error: {refs} holds {os.name}" in err
    assert "refused and not run" in err
    assert left_behind(tmp_path) == ["refcoco", "train2014"]


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'ann_id sentences'\ntR.",
        b"cbuiltins\ngetattr\n(cbuiltins\nset\nS'ann_id sentences'\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x07set.add\x93(\x8c\x10ann_id sentencestR.",
        b"\x80\x02\x82\x01.ann_id sentences",
        b"Pann_id sentences\n.",
        b"(S'ann_id sentences'\n",
        b"ann_id sentences",
        b"\x80\x63.ann_id sentences",
        b"\x80\x02X\x10\x00\x00\x00ann_id sentencesr\xff\xff\xff\x7f.",
        b"I1\n.ann_id sentences",
        b"(lp0\nI1\na.ann_id sentences",
    ],
)
def test_odd_pickles(refcoco, run, content):
    (refcoco / "refs(unc).p").write_bytes(content)
    assert refused(run, refcoco).startswith(f"error: {refcoco / 'refs(unc).p'}")


def test_sets_are_plain(refcoco, tmp_path):
    """A set has a class by name in old pickles, and does no harm."""
    extra = [
        reference(1, 1, 11, "train", "left dog") | {"more": {1, 2}, "fixed": frozenset("ab"), "n": 2**80}
    ]
    (refcoco / "refs(unc).p").write_bytes(pickle.dumps(extra, protocol=2))
    run_prepare(refcoco, tmp_path / "out", images=tmp_path / "train2014", strict=True)
    assert [row[1] for row in rows_of(tmp_path / "out")] == ["left dog"]


def test_which_references(refcoco, tmp_path, run):
    google = refcoco / "refs(google).p"
    google.write_bytes(pickle.dumps([reference(1, 2, 12, "train", "a man")], protocol=2))
    err = refused(run, refcoco)
    assert (
        "several tables of texts with boxes (refs(google).p, refs(unc).p): give one of them in place of the folder"
        in err
    )
    images = ("--images", tmp_path / "train2014")
    assert run("data", "prepare", google, "-o", tmp_path / "out", *images)[0] == 0
    assert [row[1] for row in rows_of(tmp_path / "out")] == ["a man"]
    (refcoco / "instances.json").unlink()
    assert "has no instances.json beside it" in refused(run, google)


# Flickr30k Entities

SENTENCES = """\
[/EN#1/people A man] in [/EN#2/clothing a blue shirt] is on [/EN#3/scene the street] .
[/EN#1/people Someone] holds [/EN#4/other a cup] , looking at [/EN#0/notvisual it] .
[/EN#5/other The wind] blows ; [/EN#6/other a hat] .
"""


def entities(folder, *objects, size=(WIDTH, HEIGHT), head=""):
    body = "".join(f"<object>{one}</object>" for one in objects)
    sized = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "77.xml").write_text(f"{head}<annotation><filename>77.jpg</filename>{sized}{body}</annotation>")


def drawn(numbers, box):
    names = "".join(f"<name>{number}</name>" for number in numbers)
    edges = "".join(
        f"<{edge}>{value}</{edge}>" for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"{names}<bndbox>{edges}</bndbox>"


@pytest.fixture
def flickr(tmp_path):
    source = tmp_path / "flickr30k"
    photo(source / "flickr30k-images" / "77.jpg")
    (source / "Sentences").mkdir()
    (source / "Sentences" / "77.txt").write_text(SENTENCES)
    entities(
        source / "Annotations",
        drawn([1], (10, 0, 30, 50)), drawn([1, 2], (60, 0, 80, 50)), drawn([4], (90, 10, 120, 20)),
        "<name>3</name><scene>1</scene><nobndbox>1</nobndbox>", "<name>5</name><scene>0</scene><nobndbox>1</nobndbox>",
    )  # fmt: skip
    return source


FLICKR_ROWS = [
    ("77", "A man / Someone", "0.100,0.000,0.300,1.000;0.600,0.000,0.800,1.000", "people"),
    ("77", "a blue shirt", "0.600,0.000,0.800,1.000", "clothing"),
    ("77", "the street", "", "scene"),
    ("77", "a cup", "0.900,0.200,1.000,0.400", "other"),
]


def test_flickr_entities(flickr, tmp_path):
    folder, lines = run_prepare(flickr, tmp_path / "out")
    assert rows_of(tmp_path / "out") == FLICKR_ROWS
    assert folder.phrases[2].area == 1
    for line in (
        "layout flickr30k",
        "note: phrases that name nothing in the photo, left out (2): it in 77, The wind in 77",
        "note: boxes that reach beyond the photo, clipped (1): a cup in 77",
        "left out: phrases without a box (1): a hat in 77",
    ):
        assert line in lines
    (flickr / "test.txt").write_text("77\n78\n")
    folder, _ = run_prepare(tmp_path / "flickr30k", tmp_path / "again")
    assert folder.split == {"again/77": "test"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_doctype_is_refused(flickr, run, encoding):
    """A few lines of nested entities would fill the memory."""
    head = '<!DOCTYPE x [<!ENTITY a "1"><!ENTITY b "&a;&a;">]>'
    path = flickr / "Annotations" / "77.xml"
    text = path.read_text().replace("<name>1", "<name>&b;")
    path.write_bytes((f'<?xml version="1.0" encoding="{encoding}"?>' + head + text).encode(encoding))
    assert (
        "files that cannot be used (1): 77.xml [a DOCTYPE, refused since it may declare entities]"
        in refused(run, flickr)
    )
    for content, message in ((b"<annotation>", "no readable XML"), (None, "No such file")):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        assert message in refused(run, flickr)


# Plain tables


def write_boxes(source, *rows, columns=("image", "text", "boxes")):
    write_table(source / "boxes.csv", [columns, *rows])


BOX_ROWS = [
    ("a", "a red cup / the mug", "0.100,0.200,0.300,0.400;0.500,0.000,1.000,1.000", "noun"),
    ("b", "the sky", "", "phrase"),
]


@pytest.fixture
def mine(tmp_path):
    source = tmp_path / "mine"
    photo(source / "photos" / "a.jpg", 10)
    photo(source / "photos" / "b.PNG.jpg", 60)
    (source / "photos" / "b.PNG.jpg").rename(source / "photos" / "b.png")
    return source


SAID = "a red cup / the mug"
FORMS = {
    "shares": (
        "image,phrase,boxes,kind",
        ['a.jpg,{said},"0.1,0.2,0.3,0.4;0.5,0,1,1",noun', "b.png,the sky,,"],
    ),
    "pixels": (
        "Image,Text,BBox,kind",
        ['photos/a.jpg,{said},"10 10 30 20; 50 0 100 50",noun', "b.png,the sky,,"],
    ),
    "a row for each box": (
        "file_name,texts,kind,xmin,ymin,xmax,ymax",
        ["a,{said},noun,10,10,30,20", "a,{said},noun,50,0,100,50", "b,the sky,,,,,"],
    ),
    "sizes by columns": (
        "image,text,kind,x,y,width,height",
        ["a,{said},noun,10,10,20,10", "a,{said},noun,50,0,50,50", "b,the sky,,,,,"],
    ),
    "sizes by option": (
        "image,text,bbox,kind",
        ['a,{said},"[[10, 10, 20, 10], [50,0,50,50]]",noun', "b.png,the sky,,"],
    ),
    "semicolons": (
        "\ufeffimage;text;x0;y0;x1;y1;kind",
        ["a.jpg;{said};.1;.2;.3;.4;noun", "a.jpg;{said};.5;0;1;1;noun", "b;the sky;;;;;"],
    ),
    "pixels of a larger original": (
        "image,text,boxes,kind,width,height",
        ['a,{said},"20,20,60,40;100,0,200,100",noun,200,100', "b.png,the sky,,,200,100"],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_tables(mine, tmp_path, form):
    heading, rows = FORMS[form]
    lines = [heading, *(row.format(said=SAID) for row in rows)]
    (mine / "boxes.csv").write_text("\r\n".join(lines), encoding="utf-8")
    by_option = {"box_form": BoxForm.sizes, "box_unit": BoxUnit.pixels} if form == "sizes by option" else {}
    folder, lines = run_prepare(mine, tmp_path / "out", strict=True, **by_option)
    assert rows_of(tmp_path / "out") == BOX_ROWS
    assert lines[0] == "layout csv"
    assert folder.phrases[0].texts == ("a red cup", "the mug")


def test_columns_and_splits_of_tables(mine, tmp_path, run):
    rows = [["a", "a cup", "0,0,0.5,0.5", "val"], ["b", "a cup", "0,0,1.004,0.5", "TRAIN"]]
    write_boxes(mine, *rows, columns=("which", "said", "boxes", "split"))
    assert (
        "has no column like image; name it with --image-column: found which, said, boxes, split"
        in refused(run, mine)
    )
    columns = ("--image-column", "which", "--text-column", "said", "--name", "Mine", "--licence", "CC0")
    code, out, _ = run("data", "prepare", mine, "-o", tmp_path / "out", *columns)
    assert code == 0
    assert splits_of(tmp_path / "out") == {"a": "validation", "b": "train"}
    assert rows_of(tmp_path / "out")[1][2] == "0.000,0.000,1.000,0.500"
    assert out.startswith(f"{tmp_path / 'out'}: Mine (CC0)\n")
    assert "splits: given in phrases.csv" in out


def test_pixels_are_clipped(mine, tmp_path):
    write_boxes(mine, ["a", "a cup", "-20,10,150,80"], ["a", "a hat", "120,0,130,10"])
    folder, lines = run_prepare(mine, tmp_path / "out", max_side=64)
    assert folder.image("out/a").shape == (32, 64, 3)
    assert rows_of(tmp_path / "out") == [("a", "a cup", "0.000,0.200,1.000,1.000", "phrase")]
    assert "note: boxes that reach beyond the photo, clipped (1): a cup in a" in lines
    assert "left out: boxes outside the photo (1): a hat in a" in lines


def test_broken_rows_are_counted(mine, tmp_path, run):
    (mine / "photos" / "c.jpg").write_bytes(b"no photo")
    (mine / "photos" / "d.jpg").write_bytes((mine / "photos" / "a.jpg").read_bytes())
    rows = [
        ["a", "a cup", "0,0,50,50", ""], ["gone", "a cup", "0,0,50,50", ""], ["", "a cup", "0,0,50,50", ""],
        ["a", " / ", "0,0,50,50", ""], ["a", "a cup", "0,0,50", ""], ["a", "a cup", "0,0,50,nan", ""],
        ["a", "a cup", "0,0,50,50", "later"], ["c", "a cup", "0,0,50,50", ""], ["d", "a dog", "0,0,50,50", ""],
        ["/old/home/photos/a.jpg", "a cup", "0,0,50,50", ""], ["other/b.png", "a hat", "0,0,50,50", ""],
    ]  # fmt: skip
    write_boxes(mine, *rows, columns=("image", "text", "boxes", "split"))
    code, _, err = run("data", "prepare", mine, "-o", tmp_path / "out")
    assert code == 0
    for line in (
        "left out: rows of boxes.csv whose boxes are not four numbers each (2): line 6, line 7",
        "left out: photos without a file (2): gone, other/b.png",
        "left out: rows of boxes.csv without an image (1): line 4",
        "left out: rows of boxes.csv without a text (1): line 5",
        "left out: rows of boxes.csv whose split is not train, val or test (1): line 8 'later'",
        "left out: images that cannot be read (1): c.jpg",
        "left out: photos that are copies of another (1): d of a",
    ):
        assert line in err.splitlines()
    assert rows_of(tmp_path / "out") == [("a", "a cup", "0.000,0.000,0.500,1.000", "phrase")]


@pytest.mark.parametrize(
    ("boxes", "options", "message"),
    [
        (["0,0,50,50", "0,0,0.5,0.5"], (), "1 of 2 boxes lie within 0..1 and the others do not: say --box-unit pixels or --box-unit shares"),
        (["50,10,20,10", "0,0,9,9"], (), "1 of 2 boxes run backwards as x0,y0,x1,y1 (50,10,20,10): say --box-form sizes"),
        (["50,10,20,10"], ("--box-form", "corners"), "nothing usable is left; boxes without an area (1): a cup in a"),
    ],
)  # fmt: skip
def test_boxes_that_could_mean_two_things(mine, run, boxes, options, message):
    write_boxes(mine, *(["a", "a cup", box] for box in boxes))
    assert message in refused(run, mine, *options)


def test_units_by_option(mine, tmp_path):
    write_boxes(mine, ["a", "a dot", "0,0,1,1"])
    run_prepare(mine, tmp_path / "shares")
    run_prepare(mine, tmp_path / "pixels", box_unit=BoxUnit.pixels)
    assert rows_of(tmp_path / "shares")[0][2] == "0.000,0.000,1.000,1.000"
    assert rows_of(tmp_path / "pixels")[0][2] == "0.000,0.000,0.010,0.020"


def test_photos_of_one_name(mine, tmp_path):
    """Folders of categories repeat names; a table that does not say which is not believed."""
    photo(mine / "more" / "a.jpg", 90)
    write_boxes(
        mine, ["photos/a.jpg", "a cup", "0,0,1,1"], ["more/a", "a hat", "0,0,1,1"], ["a.jpg", "?", ""]
    )
    _, lines = run_prepare(mine, tmp_path / "out")
    assert [row[:2] for row in rows_of(tmp_path / "out")] == [("more_a", "a hat"), ("photos_a", "a cup")]
    assert "left out: photos whose name several files have (1): a.jpg" in lines


# Which form


def test_forms_are_recognised(coco, refcoco, flickr, mine, tmp_path, run):
    write_boxes(mine, ["a", "a cup", "0,0,1,1"])
    found = {source.name: detect(source) for source in (coco, refcoco, flickr, mine)}
    assert found == {"coco": "coco", "refcoco": "refcoco", "flickr30k": "flickr30k", "mine": "csv"}
    assert detect(refcoco / "instances.json") is LayoutName.coco
    write_json(mine / "also.json", json.loads((coco / "annotations" / "instances_all.json").read_text()))
    several = (
        f"error: {mine} has several layouts: coco (also.json), csv (boxes.csv); say which with --layout\n"
    )
    assert refused(run, mine) == several
    assert run("data", "prepare", mine, "-o", tmp_path / "out", "--layout", "csv")[0] == 0
    # Maps beside the images may be meant as well; images alone may not.
    (mine / "photos").rename(mine / "images")
    (mine / "also.json").unlink()
    assert detect(mine) is LayoutName.csv
    photo(mine / "maps" / "a.png")
    with pytest.raises(
        DataError, match=r"several layouts: csv \(boxes.csv\), folder \(maps or fixations\); say which"
    ):
        detect(mine)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("coco", "has no .json with images and annotations"),
        ("refcoco", "has no pickle of references"),
        ("flickr30k", "does not hold the folders Sentences and Annotations"),
        ("csv", "has no .csv or .tsv with a column of boxes"),
    ],
)
def test_sources_that_are_none(mine, run, layout, message):
    assert message in refused(run, mine, "--layout", layout)


def test_wrong_arguments(mine, run):
    (mine / "boxes.csv").write_text("image,text,boxes\n")
    assert "boxes.csv has no rows" in refused(run, mine)
    (mine / "boxes.csv").write_text("image,boxes\na,\n")
    assert "has no column like phrase; name it with --text-column: found image, boxes" in refused(run, mine)
    (mine / "boxes.csv").write_bytes(b"image,text,boxes\na,\xff,\n")
    assert "save it in UTF-8" in refused(run, mine)
    assert "holds no texts with boxes in a known form" in refused(run, mine / "photos" / "a.jpg")
    assert "no.csv is neither a folder nor a file" in refused(run, mine / "no.csv")
    assert "no is not a folder, in" in refused(run, mine / "boxes.csv", "--images", "no")


def test_packed_copies_are_no_source(coco, run):
    """A folder packed into its own source is neither read again nor in the way."""
    output = coco / "packed"
    assert run("data", "prepare", coco, "-o", output)[0] == 0
    assert run("data", "prepare", coco, "-o", output, "--overwrite", "--all-or-nothing")[0] == 0
    assert rows_of(output) == COCO_ROWS
    assert run("data", "prepare", coco, "-o", coco / "again", "--all-or-nothing")[0] == 0


def test_links_in_a_circle(mine, tmp_path):
    (mine / "photos" / "up").symlink_to(mine, target_is_directory=True)
    write_boxes(mine, ["a", "a cup", "0,0,1,1"])
    run_prepare(mine, tmp_path / "out", strict=True)


# Show


def test_show(flickr, tmp_path, run):
    (flickr / "val.txt").write_text("77\n")
    run_prepare(flickr, tmp_path / "out", split=SplitChoice.auto)
    code, out, _ = run("data", "show", tmp_path / "out")
    assert code == 0
    lines = out.splitlines()
    assert (
        lines[0]
        == f"{tmp_path / 'out'}: Flickr30k Entities (non-commercial research and education; Plummer et al., ICCV 2015)"
    )
    assert [line.split() for line in lines[2:7]] == [
        ["photos", "rows", "wordings", "distinct", "boxes"],
        ["train", "0", "0", "0", "0", "0"],
        ["validation", "1", "4", "5", "5", "4"],
        ["test", "0", "0", "0", "0", "0"],
        ["all", "1", "4", "5", "5", "4"],
    ]
    assert lines[8:12] == [
        "splits: given in phrases.csv",
        "rows by the share of the photo in their boxes: no box: 1, up to 1 %: 0, 1 to 10 %: 1, 10 to 50 %: 2, above 50 %: 0",
        "rows by kind: clothing: 1, other: 1, people: 1, scene: 1",
        "people: A man",
    ]
    code, out, _ = run("data", "show", tmp_path / "out", "--json")
    found = json.loads(out)
    assert (code, found["all"]["boxes"], found["splits"]["validation"]["kinds"]["people"]) == (0, 4, 1)
    photo(tmp_path / "out" / "images" / "extra.jpg")
    assert "photos without a text: 1" in run("data", "show", tmp_path / "out")[1]


def test_show_tells_what_is_wrong(coco, tmp_path, run):
    run_prepare(coco, tmp_path / "out")
    image = tmp_path / "out" / "images" / "000000000002.jpg"
    image.write_bytes(image.read_bytes()[:200])
    code, out, err = run("data", "show", tmp_path / "out")
    assert (code, "rows by kind: noun: 3" in out) == (1, True)
    assert (
        err
        == f"error: {tmp_path / 'out'} cannot be used as it is: images that cannot be read (1): 000000000002\n"
    )
    image.unlink()
    code, _, err = run("data", "show", tmp_path / "out")
    assert (code, "no file of photo out/000000000002" in err) == (1, True)
    (tmp_path / "out" / "phrases.csv").unlink()
    assert run("data", "show", tmp_path / "out")[0] == 1


def test_show_a_folder_of_both(mine, tmp_path, run):
    """Gaze, and what its photos show, may lie in one folder."""
    photo(mine / "maps" / "a.png")
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[10:20, 10:30] = np.arange(20)
    write_image(mine / "maps" / "a.png", pixels)
    (mine / "photos").rename(mine / "images")
    prepare(mine, tmp_path / "out", PrepareOptions())
    write_table(
        tmp_path / "out" / "phrases.csv",
        [["image", "phrase", "boxes", "kind"], ["a", "a cup", "0,0,1,1", "noun"]],
    )
    code, out, _ = run("data", "show", tmp_path / "out")
    assert code == 0
    assert out.count(f"{tmp_path / 'out'}: out\n") == 2
    code, out, _ = run("data", "show", tmp_path / "out", "--json")
    assert json.loads(out)["phrases"]["all"]["rows"] == 1
    assert json.loads(out)["all"]["pairs"] == 1
