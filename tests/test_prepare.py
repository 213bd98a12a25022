"""`salgan-edge data prepare` on tiny sources in each layout."""

from __future__ import annotations

import json
import shutil
import sys

import cv2
import numpy as np
import pytest
from packing import left_behind, picture, refused, run_prepare, write_table

from salgan_edge.errors import DataError, MissingDependencyError, OutputError
from salgan_edge.gaze.folder import DatasetInfo, GazeFolder
from salgan_edge.gaze.phrases import PhraseSet
from salgan_edge.gaze.prepare import Columns, LayoutName, PrepareOptions, SplitChoice, build
from salgan_edge.gaze.prepare.build import prepare
from salgan_edge.gaze.prepare.readers import read_map, read_points
from salgan_edge.gaze.prepare.texts import condition_named, parse_name, read_texts, short_name
from salgan_edge.images import read_image, write_image

WIDTH, HEIGHT = 60, 40


def photo(seed, size=(HEIGHT, WIDTH)):
    return picture(seed, size)


def blurred(x, y, size=(HEIGHT, WIDTH)):
    points = np.zeros(size, np.float32)
    points[y, x] = 1
    spread = cv2.GaussianBlur(points, (0, 0), 5)
    return (spread * 255 / spread.max()).round().astype(np.uint8)


def point_image(points, size=(HEIGHT, WIDTH)):
    image = np.zeros(size, np.uint8)
    for x, y in points:
        image[y, x] = 255
    return image


def as_set(points):
    return {(int(x), int(y)) for x, y in points}


def stored(folder):
    """Fixations of a packed folder as they lie in the file."""
    with np.load(folder / "fixations.npz") as file:
        return {key: file[key] for key in file.files}


# SJTU-TIS as published

PHOTOS = {"000000000071": ["_0", ""], "000000000109": ["_0", "_1", "_2", "_3"], "000000000165": ["_0", ""]}
NAMED = {"_0": "pure", "": "whole", "_1": "general", "_2": "nonsalient", "_3": "salient"}
TEXTS = {
    "71": 'A train, on a "curve"', "71_0": "", "109_0": "", "109_1": "A room → with a dog",
    "109_2": "A lamp", "109_3": "Two dogs", "165": "A woman", "165_0": "",
}  # fmt: skip
POINTS = {
    f"{name}{suffix}": [(3 + 7 * n + number, 2 + 5 * n), (WIDTH - 1, HEIGHT - 1), (0, 0)]
    for number, (name, suffixes) in enumerate(PHOTOS.items())
    for n, suffix in enumerate(suffixes)
}


@pytest.fixture
def published(tmp_path):
    """Three photos: two with one text, one with three."""
    source = tmp_path / "SJTU"
    for number, (name, suffixes) in enumerate(PHOTOS.items()):
        for suffix in suffixes:
            stem = f"{name}{suffix}"
            write_image(source / "image_1800" / f"{stem}.png", photo(number * 20))
            write_image(source / "map_1800" / f"{stem}.png", blurred(*POINTS[stem][0]))
            write_image(source / "fixation_1800" / f"{stem}.png", point_image(POINTS[stem]))
    (source / "text.json").write_text(json.dumps(TEXTS))
    return source


def check_published(folder):
    """Everything that `published` holds came back."""
    pairs = {pair.key: pair for pair in folder.pairs}
    assert len(pairs) == 8
    numbers = {name: number for number, name in enumerate(PHOTOS)}
    for name, suffixes in PHOTOS.items():
        for suffix in suffixes:
            pair = pairs[f"{name}_{NAMED[suffix]}"]
            stem = f"{name}{suffix}"
            assert pair.text == TEXTS[f"{short_name(name)}{suffix}"]
            assert (pair.width, pair.height) == (WIDTH, HEIGHT)
            assert as_set(stored(folder.folder)[pair.key]) == set(POINTS[stem])
            assert stored(folder.folder)[pair.key].dtype == np.uint16
            drawn = cv2.imread(str(folder.folder / "maps" / f"{pair.key}.png"), cv2.IMREAD_UNCHANGED)
            assert (drawn == blurred(*POINTS[stem][0])).all()
        assert np.abs(folder.image(name).astype(int) - photo(numbers[name] * 20)).mean() < 4


def test_published_layout_comes_back(published, tmp_path):
    folder, lines = run_prepare(published, tmp_path / "packed", strict=True)
    check_published(folder)
    assert sorted(path.name for path in (folder.folder / "images").iterdir()) == [f"{p}.jpg" for p in PHOTOS]
    assert lines[0] == "layout sjtu-tis"
    assert f"images: {published / 'image_1800'} (8 files)" in lines
    assert folder.info.name == "SJTU-TIS"
    assert folder.info.licence == "research use"
    assert "split" not in (folder.folder / "pairs.csv").read_text().splitlines()[0]
    # The same again, in the folder around it.
    (published / "text.json").rename(tmp_path / "text.json")
    again, _ = run_prepare(tmp_path, tmp_path / "again", strict=True)
    check_published(again)


def test_one_photo_for_all_conditions(published, tmp_path):
    """`71.png` is the photo of 71_0 too, and `109.png` of 109_1 to 109_3 without being a pair."""
    for path in (published / "image_1800").iterdir():
        name, condition = parse_name(path.stem)
        if condition in ("pure", "whole"):
            path.rename(path.with_name(f"{name}.png"))
        else:
            path.unlink()
    assert len(list((published / "image_1800").iterdir())) == 3
    folder, _ = run_prepare(published, tmp_path / "packed", strict=True)
    check_published(folder)


@pytest.mark.parametrize("kind", ["png", "npy points", "npy grid", "txt", "csv", "mat points", "mat grid"])
def test_forms_of_fixations(published, tmp_path, kind):
    fixations = published / "fixation_1800"
    for path in sorted(fixations.iterdir()):
        points = POINTS[path.stem]
        base = fixations / path.stem
        if kind != "png":
            path.unlink()
        if kind == "npy points":
            np.save(f"{base}.npy", np.array(points))
        elif kind == "npy grid":
            np.save(f"{base}.npy", point_image(points) > 0)
        elif kind == "txt":
            base.with_suffix(".txt").write_text("".join(f"{x + 0.4}\t{y + 0.9}\n" for x, y in points))
        elif kind == "csv":
            lines = "".join(f"{n};{y};{x}\r\n" for n, (x, y) in enumerate(points))
            base.with_suffix(".csv").write_text("viewer;Y;X\r\n" + lines)
        elif kind == "mat points":
            scipy = pytest.importorskip("scipy.io")
            scipy.savemat(f"{base}.mat", {"fix": np.array(points) + 1})
        elif kind == "mat grid":
            scipy = pytest.importorskip("scipy.io")
            scipy.savemat(f"{base}.mat", {"fixLocs": point_image(points) > 0})
    folder, _ = run_prepare(published, tmp_path / "packed", strict=True)
    check_published(folder)


def write_workbook(path, sheets):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)


@pytest.mark.parametrize(
    "form",
    ["mapping of files", "nested", "list", "csv", "semicolons", "columns", "xlsx", "xlsx as published"],
)
def test_forms_of_texts(published, tmp_path, form):
    """Names with and without zeros, suffixes and numbers; a column of conditions; other headings."""
    table = published / "text.json"
    table.unlink()
    options = {}
    if form == "mapping of files":
        table.write_text(json.dumps({f"{n.zfill(12)}.png": t for n, t in TEXTS.items() if t}))
    elif form == "nested":
        nested = {"109": {"General": "A room → with a dog", "non-salient": "A lamp", "salient": "Two dogs"}}
        table.write_text(json.dumps({**nested, "71": TEXTS["71"], "165": TEXTS["165"]}))
    elif form == "list":
        table.write_text(json.dumps([{"file_name": n, "caption": t} for n, t in TEXTS.items()]))
    elif form == "csv":
        write_table(published / "texts.csv", [["Image", "Text"], *TEXTS.items()])
    elif form == "semicolons":
        lines = [";".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) for row in TEXTS.items()]
        (published / "texts.csv").write_text("\ufeffimage;text\n" + "\n".join(lines), encoding="utf-8")
    elif form == "columns":
        write_table(
            published / "data.csv", [["which", "said", "text"], *([n, t, "no"] for n, t in TEXTS.items())]
        )
        options = {"columns": Columns("which", "said"), "texts": published / "data.csv"}
    elif form == "xlsx":
        write_workbook(published / "texts.xlsx", {"Sheet": [["image", "text"], *map(list, TEXTS.items())]})
    else:
        # Numbers as numbers, the condition in a column or in the name of the sheet.
        part = [["image", "描述种类", "text"], [109, "整体", TEXTS["109_1"]], [None, None, None],
                [109, "非显著", TEXTS["109_2"]], [109.0, "显著", TEXTS["109_3"]]]  # fmt: skip
        whole = [["image", "text", "image source"], [71, TEXTS["71"]], [165, TEXTS["165"]]]
        write_workbook(
            published / "text最终版本.xlsx",
            {"notes": [["who"], ["me"]], "部分-实验设置": part, "整体": whole},
        )
    folder, _ = run_prepare(published, tmp_path / "packed", strict=True, **options)
    check_published(folder)


def test_only_what_is_usable_is_packed(published, tmp_path, run):
    texts = {**TEXTS, "109_2": " ", "000109_3": "Another text"}
    (published / "text.json").write_text(json.dumps(texts))
    (published / "image_1800" / "000000000200.png").write_bytes(b"nothing")
    write_image(published / "map_1800" / "000000000300_0.png", blurred(5, 5))
    (published / "image_1800" / "000000000071.png").write_bytes(b"broken")
    for suffix in ("", "_0"):
        shutil.copy(
            published / "image_1800" / "000000000109_0.png",
            published / "image_1800" / f"000000000165{suffix}.png",
        )
    code, out, err = run("data", "prepare", published, "--output", tmp_path / "packed")
    assert code == 0
    for line in (
        "left out: pairs with several texts in text.json (1): 000000000109 salient",
        "left out: pairs without a text in text.json (2): 000000000109 nonsalient, 000000000109 salient",
        "left out: images with neither map nor fixations (1): 000000000200.png",
        "left out: photos that have a map or fixations and no image (1): 000000000300",
        "left out: photos that are copies of another (1): 000000000165 of 000000000109",
    ):
        assert line in err.splitlines()
    keys = [pair.key for pair in GazeFolder(tmp_path / "packed").pairs]
    # The photo 71 is known from 71_0.
    assert keys == ["000000000071_pure", "000000000071_whole", "000000000109_general", "000000000109_pure"]
    assert out.splitlines()[2].split() == ["photos", "pairs", "general", "pure", "whole", "fixations"]

    code, out, err = run("data", "prepare", published, "--output", tmp_path / "strict", "--all-or-nothing")
    assert code == 1
    assert "error: --all-or-nothing, and these cannot be used: " in err
    assert not (tmp_path / "strict").exists()


def test_sizes_of_one_photo_must_agree(published, tmp_path):
    write_image(published / "image_1800" / "000000000109_3.png", photo(0, (20, 30)))
    folder, lines = run_prepare(published, tmp_path / "packed")
    assert len(folder.pairs) == 7
    assert (
        "left out: conditions whose image has another size than the photo's first (1): 000000000109_3.png"
        in lines
    )


# Plain folders


def test_coordinates_stay_when_photos_shrink(tmp_path):
    """A photo of 700x350 and its map shrink, fixations and sizes stay, and both show the same place."""
    size = (350, 700)
    pixels = np.full((*size, 3), 40, np.uint8)
    pixels[210:220, 500:510] = 255
    write_image(tmp_path / "in" / "images" / "a.png", pixels)
    write_image(tmp_path / "in" / "maps" / "a.png", blurred(505, 215, size))
    write_image(tmp_path / "in" / "fixations" / "a.png", point_image([(505, 215), (699, 349)], size))
    folder, _ = run_prepare(tmp_path / "in", tmp_path / "out", strict=True)
    (pair,) = folder.pairs
    assert (pair.width, pair.height) == (700, 350)
    assert as_set(stored(folder.folder)["a_pure"]) == {(505, 215), (699, 349)}
    small = folder.image("a")
    assert small.shape == (256, 512, 3)
    y, x = np.argwhere(small[..., 0] > 200).mean(0)
    assert (x + 0.5) / 512 == pytest.approx(505 / 700, abs=0.002)
    assert (y + 0.5) / 256 == pytest.approx(215 / 350, abs=0.002)
    human = folder.saliency_map(pair)
    assert human.shape == (160, 320)
    y, x = np.unravel_index(human.argmax(), human.shape)
    assert (x + 0.5) / 320 == pytest.approx(505.5 / 700, abs=0.004)
    assert (y + 0.5) / 160 == pytest.approx(215.5 / 350, abs=0.006)
    # The largest side is an option.
    folder, _ = run_prepare(tmp_path / "in", tmp_path / "small", max_side=64)
    assert folder.image("a").shape == (32, 64, 3)


def test_salicon(tmp_path):
    """Sub-folders of splits, points counted from 1 by viewer, a test set without gaze."""
    scipy = pytest.importorskip("scipy.io")
    source = tmp_path / "salicon"
    for n, part in enumerate(("train", "train", "val", "test")):
        write_image(source / "images" / part / f"COCO_{n}.jpg", photo(20 * n))
        if part == "test":
            continue
        write_image(source / "maps" / part / f"COCO_{n}.png", blurred(10 + n, 20))
        gaze = np.zeros((3, 1), [("location", "O"), ("timestamp", "O"), ("fixations", "O")])
        for viewer, points in enumerate(([(1, 1), (11 + n, 21)], [(WIDTH, HEIGHT)], np.zeros((0, 0)))):
            gaze[viewer, 0] = (np.zeros((5, 2)), np.zeros((5, 1)), np.array(points))
        (source / "fixations" / part).mkdir(parents=True, exist_ok=True)
        scipy.savemat(
            source / "fixations" / part / f"COCO_{n}.mat",
            {"image": f"COCO_{n}", "resolution": np.array([[HEIGHT, WIDTH]]), "gaze": gaze},
        )
    folder, lines = run_prepare(source, tmp_path / "packed", strict=True)
    assert {pair.image: pair.split for pair in folder.pairs} == {
        "COCO_0": "train", "COCO_1": "train", "COCO_2": "validation",
    }  # fmt: skip
    assert folder.split_id == "given in pairs.csv"
    assert {pair.condition for pair in folder.pairs} == {"pure"}
    assert as_set(stored(folder.folder)["COCO_1_pure"]) == {(0, 0), (11, 20), (WIDTH - 1, HEIGHT - 1)}
    assert "splits: as in the folders (train, validation)" in lines
    assert "note: photos of the test folder without gaze, left out (1): COCO_3.jpg" in lines
    # The rule, if that is wanted; or one part.
    ruled, _ = run_prepare(source, tmp_path / "ruled", split=SplitChoice.rule)
    assert ruled.split_id != folder.split_id
    whole, _ = run_prepare(source, tmp_path / "whole", split=SplitChoice.test)
    assert {pair.split for pair in whole.pairs} == {"test"}


def test_mit1003(tmp_path):
    """Maps and points in one folder, points in JPEG: its traces around them are none."""
    source = tmp_path / "mit"
    size = (240, 320)
    points = {(50, 60), (200, 120), (300, 200)}
    write_image(source / "ALLSTIMULI" / "i1.jpeg", photo(1, size))
    write_image(source / "ALLFIXATIONMAPS" / "i1_fixMap.jpg", blurred(200, 120, size), 100)
    write_image(source / "ALLFIXATIONMAPS" / "i1_fixPts.jpg", point_image(points, size), 100)
    lit = np.count_nonzero(cv2.imread(str(source / "ALLFIXATIONMAPS" / "i1_fixPts.jpg"), -1))
    assert lit > 3
    folder, _ = run_prepare(source, tmp_path / "packed", strict=True)
    assert as_set(stored(folder.folder)["i1_pure"]) == points
    assert folder.has_map(folder.pairs[0])


def test_cat2000(tmp_path):
    """File names repeat in categories; an inner folder of results is no category."""
    scipy = pytest.importorskip("scipy.io")
    source = tmp_path / "CAT2000" / "trainSet"
    for n, category in enumerate(("Action", "Art")):
        write_image(source / "Stimuli" / category / "001.jpg", photo(30 * n))
        write_image(source / "Stimuli" / category / "Output" / "001_SaliencyMap.jpg", photo(90))
        write_image(source / "FIXATIONMAPS" / category / "001.jpg", blurred(10, 10 + n))
        (source / "FIXATIONLOCS" / category).mkdir(parents=True)
        scipy.savemat(
            source / "FIXATIONLOCS" / category / "001.mat", {"fixLocs": point_image([(10, 10 + n)])}
        )
    for place in (source, source.parent):
        folder, lines = run_prepare(place, tmp_path / f"packed{place.name}", strict=True)
        assert {k: as_set(v) for k, v in stored(folder.folder).items()} == {
            "Action_001_pure": {(10, 10)}, "Art_001_pure": {(10, 11)},
        }  # fmt: skip
        assert "splits: 70/15/15 by name" in lines


def test_files_of_other_categories_do_not_fit(tmp_path):
    for category in ("Action", "Art"):
        write_image(tmp_path / "in" / "images" / category / "001.png", photo(len(category)))
    write_image(tmp_path / "in" / "maps" / "Action" / "001.png", blurred(3, 3))
    folder, lines = run_prepare(tmp_path / "in", tmp_path / "out")
    assert [pair.image for pair in folder.pairs] == ["Action_001"]
    assert "left out: photos with neither map nor fixations (1): 001.png" in lines


def test_same_name_and_same_photo_in_two_splits(tmp_path):
    """Two photos of one name are two; one photo under two names is packed once, so it crosses no split."""
    for part in ("train", "val"):
        write_image(tmp_path / "in" / "images" / part / "1.png", photo(len(part)))
        write_image(tmp_path / "in" / "images" / part / f"copy_{part}.png", photo(77))
        for name in ("1", f"copy_{part}"):
            write_image(tmp_path / "in" / "maps" / part / f"{name}.png", blurred(3, 3))
    folder, lines = run_prepare(tmp_path / "in", tmp_path / "out")
    assert [pair.image for pair in folder.pairs] == ["copy_train", "train_1", "validation_1"]
    assert "left out: photos that are copies of another (1): copy_val of copy_train" in lines


def test_maps_alone_and_fixations_alone(tmp_path):
    for n, name in enumerate("ab"):
        write_image(tmp_path / "in" / "photos of mine" / f"{name}.png", photo(n * 30))
    write_image(tmp_path / "in" / "drawn" / "a.png", blurred(12, 13))
    np.save(tmp_path / "in" / "b.npy", np.array([[5.2, 6.9], [np.nan, 2], [-3, 1], [60, 39]]))
    options = {"images": "photos of mine", "maps": "drawn", "fixations": "."}
    options = {key: tmp_path / "in" / value for key, value in options.items()}
    info = DatasetInfo("Mine", "CC0", "my desk", 0.05)
    folder, lines = run_prepare(
        tmp_path / "in", tmp_path / "out", layout=LayoutName.folder, info=info, **options
    )
    a, b = folder.pairs
    assert (folder.has_map(a), folder.has_fixations(a)) == (True, False)
    assert (folder.has_map(b), folder.has_fixations(b)) == (False, True)
    assert stored(folder.folder)["b_pure"].tolist() == [[5, 6]]
    assert "left out: files with fixations outside the photo, left out (1): b.npy [3 of 4]" in lines
    assert folder.info == info
    with pytest.raises(DataError, match="fixations outside"):
        run_prepare(tmp_path / "in", tmp_path / "strict", layout=LayoutName.folder, strict=True, **options)
    assert not (tmp_path / "strict").exists()


def test_frames_of_other_sizes_are_scaled(tmp_path):
    """Points in a grid of half the size, and a stretched map with a note."""
    write_image(tmp_path / "in" / "images" / "a.png", photo(0))
    write_image(tmp_path / "in" / "fixations" / "a.png", point_image([(10, 5)], (HEIGHT // 2, WIDTH // 2)))
    write_image(tmp_path / "in" / "maps" / "a.png", blurred(20, 10, (40, 40)))
    folder, lines = run_prepare(tmp_path / "in", tmp_path / "out", strict=True)
    # The middle of pixel (10, 5) of 30x20 is the corner of (21, 11) of 60x40.
    assert stored(folder.folder)["a_pure"].tolist() == [[21, 11]]
    assert "note: maps of another shape than their photo, stretched to it (1): a.png" in lines
    human = folder.saliency_map(folder.pairs[0])
    assert human.shape[1] / human.shape[0] == pytest.approx(1.5, abs=0.05)
    y, x = np.unravel_index(human.argmax(), human.shape)
    assert (x + 0.5) / human.shape[1] == pytest.approx(20.5 / 40, abs=0.03)
    assert (y + 0.5) / human.shape[0] == pytest.approx(10.5 / 40, abs=0.03)


def test_maps_of_16_bits_and_wrong_maps(tmp_path):
    ramp = np.arange(600, dtype=np.uint16).reshape(20, 30) * 50
    write_image(tmp_path / "deep.png", ramp)
    assert read_map(tmp_path / "deep.png").max() == 255
    assert np.corrcoef(read_map(tmp_path / "deep.png").ravel(), ramp.ravel())[0, 1] == pytest.approx(1)
    grey = blurred(9, 9)
    write_image(tmp_path / "grey.jpg", np.stack([grey] * 3, axis=-1), 90)
    assert np.abs(read_map(tmp_path / "grey.jpg") - grey).max() < 12
    write_image(tmp_path / "heat.png", cv2.applyColorMap(grey, cv2.COLORMAP_JET))
    write_image(tmp_path / "points.png", point_image([(1, 1)]))
    write_image(tmp_path / "black.png", np.zeros((9, 9), np.uint8))
    (tmp_path / "text.png").write_bytes(b"text")
    for name, message in (
        ("heat", "in colours"), ("points", "two values"), ("black", "no value"), ("text", "no readable"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            read_map(tmp_path / f"{name}.png")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.png", lambda p: write_image(p, blurred(9, 9)), "a blurred map, points were expected"),
        ("a.png", lambda p: p.write_bytes(b"x"), "no readable image"),
        ("a.npy", lambda p: p.write_bytes(b"x"), "no readable array"),
        ("a.npy", lambda p: np.save(p, np.zeros((2, 3, 4))), "an array of shape"),
        ("a.txt", lambda p: p.write_text("1 2\nthree four\n"), "no table of x and y"),
        ("a.csv", lambda p: p.write_text("1\n2\n"), "no table of x and y"),
        ("a.mat", lambda p: p.write_bytes(b"x" * 200), "no MATLAB file"),
    ],
)
def test_wrong_files_of_fixations(tmp_path, name, write, message):
    if name.endswith("mat"):
        pytest.importorskip("scipy")
    write(tmp_path / name)
    with pytest.raises(DataError, match=message):
        read_points(tmp_path / name, (WIDTH, HEIGHT))


@pytest.mark.parametrize("content", [{"a": 1}, {"gaze": np.zeros(3)}, {"a": np.eye(9), "b": np.eye(9)}])
def test_matlab_files_of_other_forms(tmp_path, content):
    scipy = pytest.importorskip("scipy.io")
    scipy.savemat(tmp_path / "a.mat", content)
    with pytest.raises(DataError, match="gaze"):
        read_points(tmp_path / "a.mat", (WIDTH, HEIGHT))


# Refusals


def test_names():
    assert parse_name("000000000071") == ("000000000071", "whole")
    assert parse_name("a_b_3") == ("a_b", "salient")
    assert parse_name("a_4") == ("a_4", "whole")
    assert parse_name("_1") == ("_1", "whole")
    assert (short_name("000"), short_name("0071"), short_name("007a")) == ("0", "71", "007a")
    assert condition_named("Non-Salient") == condition_named("非显著") == condition_named("2") == "nonsalient"
    assert condition_named("other") is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.json", "{", "cannot read"),
        ("t.json", '"x"', "neither an object"),
        ("t.json", '{"a": 3}', "'a' is 3, a text was expected"),
        ("t.json", "{}", "holds no texts"),
        ("t.json", '[{"image": "a", "words": "b"}]', "no column like text: found image, words"),
        ("t.csv", "file,about\na,b\n", "name it with --text-column"),
        ("t.csv", "", "no heading"),
        ("t.xlsx", "x", "not a readable .xlsx file"),
        ("t.xls", "x", "save a spreadsheet as .xlsx or .csv"),
    ],
)
def test_wrong_tables_of_texts(tmp_path, name, text, message):
    if name.endswith("xlsx"):
        pytest.importorskip("openpyxl")
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message.replace(".", r"\.")):
        read_texts(tmp_path / name, Columns())


def test_workbook_without_texts(tmp_path):
    write_workbook(tmp_path / "t.xlsx", {"one": [["image", "who"], [1, 2]], "two": []})
    with pytest.raises(
        DataError, match=r"no sheet with an image and a text column: found one \(image, who\); two"
    ):
        read_texts(tmp_path / "t.xlsx", Columns())


def test_optional_packages_are_hinted_at(tmp_path, monkeypatch):
    (tmp_path / "t.xlsx").write_bytes(b"")
    (tmp_path / "a.mat").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MissingDependencyError, match=r"pip install openpyxl, or save the texts as \.csv"):
        read_texts(tmp_path / "t.xlsx", Columns())
    with pytest.raises(MissingDependencyError, match="pip install scipy"):
        read_points(tmp_path / "a.mat", (1, 1))


def test_sources_that_are_none(tmp_path, published, run):
    (tmp_path / "odd" / "stuff").mkdir(parents=True)
    assert "has no known layout (its folders: stuff)" in refused(run, tmp_path / "odd")
    for layout, message in (("sjtu-tis", "does not hold image_1800"), ("folder", "has no folder of images")):
        assert message in refused(run, tmp_path / "odd", "--layout", layout)
    assert "is neither a folder nor a file" in refused(run, tmp_path / "no")
    assert "is not a folder, in" in refused(run, published, "--maps", "no")
    for name in ("a", "b"):
        shutil.copy(published / "text.json", published / f"text_{name}.json")
    several = "several tables that may hold the texts (text.json, text_a.json, text_b.json)"
    assert several in refused(run, published)
    for path in published.glob("*.json"):
        path.unlink()
    assert "has no table of texts" in refused(run, published)


@pytest.mark.parametrize(
    "options",
    [
        ("-o", "out", "--layout", "other"), ("-o", "out", "--max-side", "9"), ("-o", "out", "--blur", "24"),
        ("-o", "out", "--box-unit", "miles"), (),
    ],
)  # fmt: skip
def test_wrong_usage(tmp_path, run, options):
    assert run("data", "prepare", tmp_path, *options)[0] == 2


def test_several_folders_of_one_kind(tmp_path):
    for name in ("images", "Stimuli", "maps"):
        write_image(tmp_path / "in" / name / "a.png", blurred(3, 3))
    with pytest.raises(
        DataError, match=r"several folders of photos \(Stimuli, images\): name one with --images"
    ):
        run_prepare(tmp_path / "in", tmp_path / "out")
    folder, _ = run_prepare(tmp_path / "in", tmp_path / "out", images=tmp_path / "in" / "Stimuli")
    assert len(folder.pairs) == 1


def test_nothing_left(tmp_path, run):
    write_image(tmp_path / "in" / "images" / "a.png", photo(0))
    write_image(tmp_path / "in" / "maps" / "b.png", blurred(3, 3))
    message = "has nothing that can be packed: photos with neither map nor fixations (1): a.png"
    assert message in refused(run, tmp_path / "in")
    write_image(tmp_path / "in" / "maps" / "a.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    message = "nothing usable is left; maps that cannot be used (1): a.png [no value above zero]"
    assert message in refused(run, tmp_path / "in")


def test_packed_folder_is_no_source(published, tmp_path, run):
    run_prepare(published, tmp_path / "packed")
    assert "is a packed folder already" in refused(run, tmp_path / "packed")


# What is left behind


def test_existing_output(published, tmp_path, run):
    output = tmp_path / "packed"
    output.mkdir()
    assert run("data", "prepare", published, "-o", output)[0] == 0
    before = (output / "pairs.csv").read_bytes()
    code, _, err = run("data", "prepare", published, "-o", output)
    assert code == 1
    assert "is not empty: choose another --output, or replace it with --overwrite" in err
    (published / "fixation_1800" / "000000000071.png").unlink()
    code, _, _ = run("data", "prepare", published, "-o", output, "--overwrite")
    assert code == 0
    assert (output / "pairs.csv").read_bytes() != before
    assert (output.stat().st_mode & 0o777) == ((tmp_path / "SJTU" / "map_1800").stat().st_mode & 0o777)
    # A folder with anything else in it is never replaced.
    (output / "thesis.txt").write_text("years of work")
    code, _, err = run("data", "prepare", published, "-o", output, "--overwrite")
    assert code == 1
    assert "is not a packed folder (it holds thesis.txt)" in err
    assert "holds the source" in run("data", "prepare", published, "-o", tmp_path, "--overwrite")[2]
    assert "holds the source" in run("data", "prepare", published, "-o", published, "--overwrite")[2]
    assert "is a file" in run("data", "prepare", published, "-o", output / "pairs.csv")[2]
    assert left_behind(tmp_path) == ["SJTU", "packed"]


@pytest.fixture(params=["gaze", "texts"])
def source(request, tmp_path, published):
    """A source of each kind of folder."""
    if request.param == "gaze":
        return published
    shutil.rmtree(published)
    folder = tmp_path / "SJTU"
    for n in range(2):
        write_image(folder / "photos" / f"{n}.jpg", photo(40 * n))
    write_table(
        folder / "boxes.csv", [["image", "text", "boxes"], *([n, "a cup", "0,0,.5,.5"] for n in (0, 1))]
    )
    return folder


@pytest.fixture
def packed(source, tmp_path):
    """The packed folder, and a function that says whether it is as it was, with nothing beside it."""
    output = tmp_path / "packed"
    prepare(source, output, PrepareOptions())
    before = {path.name: path.read_bytes() for path in output.rglob("*.*")}

    def untouched():
        after = {path.name: path.read_bytes() for path in output.rglob("*.*")}
        return (left_behind(tmp_path), after) == (["SJTU", "packed"], before)

    return output, untouched


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError(28, "No space left on device"), MemoryError])
def test_interruption_leaves_nothing(source, packed, tmp_path, fault):
    def interrupted(photos):
        yield photos[0]
        raise fault

    expected = OutputError if isinstance(fault, OSError) else fault
    for output, overwrite in (("new", False), ("packed", True)):
        with pytest.raises(expected):
            prepare(source, tmp_path / output, PrepareOptions(overwrite=overwrite), progress=interrupted)
        assert packed[1]()


def test_interruption_of_the_last_steps(source, packed, monkeypatch):
    """While the new folder is read, and between the two renames."""
    output, untouched = packed
    for reader in (GazeFolder, PhraseSet):
        monkeypatch.setattr(reader, "__init__", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare(source, output, PrepareOptions(overwrite=True))
    monkeypatch.undo()
    assert untouched()
    rename = type(output).rename

    def stopped(path, target):
        moved = rename(path, target)
        if str(target).endswith("-old"):
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(type(output), "rename", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, output, PrepareOptions(overwrite=True))
    assert untouched()


def test_interrupted_command(published, tmp_path, monkeypatch, run):
    def interrupted(path):
        if "109" in path.name:
            raise KeyboardInterrupt
        return read_image(path)

    monkeypatch.setattr(build, "read_image", interrupted)
    assert run("data", "prepare", published, "-o", tmp_path / "packed")[0] == 130
    assert left_behind(tmp_path) == ["SJTU"]


def test_options_are_checked():
    with pytest.raises(ValueError, match="max_side is 8"):
        PrepareOptions(max_side=8)
