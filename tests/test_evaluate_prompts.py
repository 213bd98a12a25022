"""The pointing game on texts with boxes: values by hand, a model that is known, and every form of output."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from salgan_edge.errors import DataError
from salgan_edge.evaluate import pictures, pointing, prompts, report, scores
from salgan_edge.evaluate.scores import Bootstrap
from salgan_edge.gaze.phrases import Phrase, PhraseSet
from salgan_edge.images import read_image, write_image

WORDS = (
    "anvil", "barrel", "candle", "drum", "easel", "funnel", "globe", "harp", "ink", "jug", "kettle", "ladder", "mill", "nail",
)  # fmt: skip


def table(folder, rows, photos=(), name="labels.csv"):
    """A folder of sets: rows of labels.csv, and photos as (set, name, level of grey)."""
    for group, photo, level in photos:
        images = folder / group / "images"
        images.mkdir(parents=True, exist_ok=True)
        write_image(images / f"{photo}.png", np.full((40, 60, 3), level, np.uint8))
    with (folder / name).open("w", newline="") as file:
        csv.writer(file).writerows([["set", "image", "kind", "texts", "boxes"], *rows])
    return folder / name


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """14 photos in two sets: a noun at the top left, an attribute at the bottom right with two wordings."""
    rows, photos = [], []
    for n, word in enumerate(WORDS):
        group = "first" if n < 7 else "second"
        photos.append((group, f"{n:02d}", 10 * n))
        rows.append([group, f"{n:02d}", "noun", f"the {word}", "0.1,0.1,0.3,0.3"])
        rows.append([group, f"{n:02d}", "attr", f"a tall {word} / the {word} below", "0.5,0.5,0.9,1"])
    rows.append(["first", "00", "noun", "everything", "0,0,1,0.7"])
    rows.append(["first", "00", "noun", "anywhere", ""])
    return PhraseSet(table(tmp_path_factory.mktemp("words"), rows, photos))


class Finder:
    """Finds the noun of a photo, and its attribute by the second wording alone; other texts change nothing.

    Free viewing has its peak in the middle of the attribute's box.
    """

    name, bundle = "finder", "0123456789abcdef"

    def maps(self, photo, texts):
        own = WORDS[int(photo[0, 0, 0]) // 10]
        places = {f"the {own}": (1, 1), f"a tall {own}": (0, 9), f"the {own} below": (9, 8)}
        found = []
        for text in texts:
            values = np.full((10, 10), 0.5, np.float32)
            values[places.get(text, (7, 7))] = 1
            found.append(values)
        return found


@pytest.fixture(scope="module")
def found(words):
    return prompts.evaluate_prompts([Finder()], words, "all", Bootstrap(50))


# One map


def test_peak_and_boxes():
    values = np.zeros((2, 4), np.float32)
    values[0, 3] = values[1, 0] = 1
    assert pointing.peak(values) == (0.875, 0.25)
    boxes = [(0.2, 0.2, 0.5, 0.4), (0.8, 0.8, 0.9, 0.9)]
    assert pointing.inside((0.519, 0.181), boxes)
    assert not pointing.inside((0.521, 0.3), boxes)
    assert not pointing.inside((0.3, 0.421), boxes)
    assert pointing.inside((0.85, 0.85), boxes, margin=0)
    assert not pointing.inside((0.51, 0.3), boxes, margin=0)
    assert not pointing.inside((0.5, 0.5), [])


def test_covered_counts_parts_of_pixels():
    assert (pointing.covered([(0.25, 0, 0.5, 0.5)], (2, 4)) == [[0, 1, 0, 0], [0, 0, 0, 0]]).all()
    # Half a pixel wide, and a box that has it whole.
    assert pointing.covered([(0, 0, 0.125, 1), (0, 0.5, 0.25, 1)], (2, 4))[:, 0] == pytest.approx([0.5, 1])
    assert pointing.covered([(0.1, 0.2, 0.3, 0.7)], (7, 13)).mean() == pytest.approx(0.1)
    widened = pointing.covered([(0.0, 0.5, 0.2, 0.6)], (100, 100), 0.02)
    assert widened.mean() == pytest.approx(0.22 * 0.14)
    assert pointing.covered([], (2, 2)).sum() == 0


def test_lift_by_hand():
    uniform = np.full((4, 4), 0.25, np.float32)
    corner = np.zeros((4, 4), np.float32)
    corner[0, 0] = 1
    boxes = pointing.covered([(0, 0, 0.5, 0.5)], (4, 4))
    assert pointing.lift(corner, uniform, boxes) == pytest.approx(4)
    assert pointing.lift(uniform, corner, boxes) == pytest.approx(0.25)
    assert pointing.lift(uniform, 3 * uniform, boxes) == pytest.approx(1)
    assert np.isnan(pointing.lift(corner, corner, 1 - pointing.covered([(0, 0, 0.25, 0.25)], (4, 4))))
    # An empty map counts as uniform.
    assert pointing.lift(corner, 0 * corner, boxes) == pytest.approx(4)


def test_how_far_a_text_moves_a_map():
    one, other = np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[::-1]
    assert pointing.text_effect(one, one) == 0
    assert pointing.text_effect(one, other) == pytest.approx(2)
    assert pointing.text_effect(np.ones((2, 2), np.float32), np.ones((2, 2), np.float32)) == 0
    assert pointing.text_effect(one, 0.5 * one) == pytest.approx(0)
    assert pointing.variation(one, other) == pytest.approx(1)
    assert pointing.variation(one, 3 * one) == pytest.approx(0)
    assert pointing.variation(one, np.ones((2, 2), np.float32)) == pytest.approx(0.5)


# Intervals


def drawn(photos, bootstrap):
    """How often each photo is drawn, as the bootstrap of means does it."""
    names, index = np.unique(photos, return_inverse=True)
    chances = np.full(len(names), 1 / len(names))
    counts = np.random.default_rng(bootstrap.seed).multinomial(len(names), chances, bootstrap.resamples)
    return counts[:, index]


def test_median_by_hand_and_by_brute_force():
    assert scores.median([3, 1, 2], ["a"] * 3, Bootstrap()) == (2, 2, 2)
    assert scores.median([1, np.nan, 2], ["a", "b", "a"], Bootstrap()) == (1.5, 1.5, 1.5)
    assert scores.median([0, 1], ["a", "b"], Bootstrap()) == (0.5, 0, 1)
    assert scores.median([np.nan], ["a"], Bootstrap()) is None
    values = np.random.default_rng(1).integers(0, 9, 40).astype(float)
    photos = [str(n // 3) for n in range(40)]
    bootstrap = Bootstrap(60, 3)
    medians = [np.median(np.repeat(values, counts)) for counts in drawn(photos, bootstrap)]
    expected = (np.median(values), *np.percentile(medians, (2.5, 97.5)))
    assert scores.median(values, photos, bootstrap) == pytest.approx(expected)


def auc(present, absent):
    return np.mean([[1.0 if p > a else 0.5 if p == a else 0.0 for a in absent] for p in present])


def test_separation_by_hand_and_by_brute_force():
    # 2 against 1 and 2, twice; 3 against both.
    assert scores.separation([2, 2, 3], [1, 2], ["a"] * 3, ["a"] * 2, Bootstrap()) == pytest.approx(
        (5 / 6,) * 3
    )
    assert scores.separation([1], [1], ["a"], ["a"], Bootstrap())[0] == 0.5
    assert scores.separation([0, 0], [1], ["a", "b"], ["c"], Bootstrap())[0] == 0
    random = np.random.default_rng(2)
    present, absent_ones = random.integers(1, 8, 20), random.integers(0, 6, 15)
    photos = [str(n % 5) for n in range(20)], [str(n % 6) for n in range(15)]
    bootstrap = Bootstrap(40, 1)
    areas = [
        auc(np.repeat(present, counts[:20]), np.repeat(absent_ones, counts[20:]))
        for counts in drawn([*photos[0], *photos[1]], bootstrap)
    ]
    expected = (auc(present, absent_ones), *np.percentile(areas, (2.5, 97.5)))
    assert scores.separation(present, absent_ones, *photos, bootstrap) == pytest.approx(expected)


# Texts about absent things


def test_words_that_count():
    assert prompts.content_words("The Red cups, on the left") == {"red", "cup"}
    assert prompts.content_words("two glasses and three berries in boxes") == {"glass", "berry", "box"}
    assert prompts.content_words("eine Straße") == {"eine", "straße"}
    assert prompts.content_words("on the left") == frozenset()


def phrase(photo, *texts):
    return Phrase(photo, "noun", texts, ((0.0, 0.0, 0.5, 0.5),))


def test_absent_texts_share_no_word():
    chosen = {
        "a/1": [phrase("a/1", "a red lamp", "the light"), phrase("a/1", "a drum")],
        "a/2": [phrase("a/2", "the lamps"), phrase("a/2", "a light bulb")],
        "a/3": [phrase("a/3", "a harp"), phrase("a/3", "a woman"), phrase("a/3", "on the left")],
        "a/4": [phrase("a/4", "a hot kettle")],
    }
    usual = prompts.usual_words(chosen, ["hot dog"])
    assert {"hot", "dog", "woman", "person", "foot"} <= usual
    assert "lamp" not in usual
    drawn = prompts.absent_texts(chosen, usual, count=9)
    assert set(drawn["a/1"]) == {"a harp"}
    assert set(drawn["a/2"]) == {"a harp", "a drum"}
    # Neither people nor hot dogs are asked for, nor a text without a word of its own.
    assert set(drawn["a/3"]) == {"a red lamp", "a drum", "the lamps", "a light bulb"}
    assert set(drawn["a/4"]) == {*drawn["a/3"], "a harp"}
    assert all(
        set(some) <= set(drawn[photo]) for photo, some in prompts.absent_texts(chosen, usual, 2).items()
    )
    backwards = dict(reversed(chosen.items()))
    assert prompts.absent_texts(backwards, usual, 2) == prompts.absent_texts(chosen, usual, 2)
    assert prompts.absent_texts({"a/1": chosen["a/1"]}, usual) == {"a/1": []}


def test_a_coco_photo_of_two_sets_is_one():
    first, second, other = "a/000000000009", "b/000000000009", "b/7"
    chosen = {
        first: [phrase(first, "a drum")],
        second: [phrase(second, "a harp")],
        other: [phrase(other, "a jug")],
    }
    drawn = prompts.absent_texts(chosen, ())
    assert drawn[first] == drawn[second] == ["a jug"]
    assert set(drawn[other]) == {"a drum", "a harp"}


def test_words_in_many_photos_are_usual():
    chosen = {f"a/{n}": [phrase(f"a/{n}", "a wall", "walls")] for n in range(5)}
    assert "wall" in prompts.usual_words(chosen, ())
    assert "wall" not in prompts.usual_words(dict(list(chosen.items())[:4]), ())


# The game


def test_scores_of_a_known_model(found):
    assert (found.photos, found.photos_of_split, found.texts, found.left_out) == (14, 14, 28, 2)
    assert (found.table, found.split, found.wordings) == ("labels", "all", "first")
    (model,) = found.models
    assert list(model.rows) == ["all", "noun", "attr"]
    assert (model.rows["all"].cases, model.rows["all"].photos) == (28, 14)
    assert model.rows["noun"].told == (1, 1, 1)
    assert model.rows["noun"].untold == (0, 0, 0)
    assert model.rows["attr"].told == (0, 0, 0)
    assert model.rows["attr"].untold == (1, 1, 1)
    assert model.rows["all"].told == (0.5, 0.5, 0.5)
    # 100 cells of a half, one of 1: four of them in the noun's box, twenty in the attribute's.
    assert model.rows["noun"].lift == pytest.approx((2.5 / 2,) * 3)
    assert model.rows["attr"].lift == pytest.approx((10 / 10.5,) * 3)
    assert model.rows["noun"].box_area == pytest.approx(0.04)
    assert model.rows["noun"].at_random == pytest.approx(0.24**2)
    assert model.rows["attr"].at_random == pytest.approx(0.44 * 0.52)
    assert {name: row.cases for name, row in model.sets.items()} == {"first": 14, "second": 14}
    assert {name: row.cases for name, row in model.sizes.items()} == {"medium": 14, "large": 14}
    assert model.less_first is None
    assert model.cases[0].peak == pytest.approx((0.15, 0.15))


def test_absent_texts_of_a_known_model(found):
    told = found.models[0].absence
    assert (told.present, told.absent) == (28, 14 * scores.ABSENT)
    # "tall" occurs in every photo, so attributes are usual texts and are not drawn.
    assert told.present_matched == 14
    for measure in (told.text_effect, told.variation):
        assert measure.auc == (1, 1, 1)
        assert measure.auc_matched == (1, 1, 1)
        assert measure.absent == 0
        assert measure.present > 0
    assert told.variation.present == pytest.approx(0.5 / 50.5)


def test_all_wordings_count_as_one_row(words, found):
    both = prompts.evaluate_prompts([Finder()], words, "all", Bootstrap(50), all_wordings=True)
    assert (both.texts, both.wordings) == (42, "all")
    attr = both.models[0].rows["attr"]
    assert attr.cases == 14
    assert attr.told == (0.5, 0.5, 0.5)
    assert attr.lift == pytest.approx(((1 + 10 / 10.5) / 2,) * 3)
    assert both.models[0].rows["noun"] == found.models[0].rows["noun"]


def test_models_are_compared(words):
    class Blind(Finder):
        name, bundle = "blind", None

        def maps(self, photo, texts):
            return super().maps(photo, [None] * len(texts))

    found = prompts.evaluate_prompts([Blind(), Finder()], words, "all", Bootstrap(50))
    blind, finder = found.models
    assert blind.rows["attr"].told == blind.rows["attr"].untold == (1, 1, 1)
    assert blind.rows["all"].lift == (1, 1, 1)
    assert blind.absence.text_effect.auc == (0.5, 0.5, 0.5)
    assert finder.less_first == (0, 0, 0)
    text = report.prompt_table(found)
    assert "blind\n" in text
    assert "less the first bundle" in text
    assert "finder (bundle 0123456789abcdef)" in text


def test_limit_keeps_the_absent_texts(words, found):
    asked = []

    class Recorder(Finder):
        def maps(self, photo, texts):
            asked.append((int(photo[0, 0, 0]), tuple(texts)))
            return super().maps(photo, texts)

    some = prompts.evaluate_prompts([Recorder()], words, "all", Bootstrap(5), limit=2)
    assert (some.photos, some.photos_of_split) == (2, 14)
    assert [level for level, _ in asked] == [0, 70]
    short = dict(asked)
    asked.clear()
    prompts.evaluate_prompts([Recorder()], words, "all", Bootstrap(5))
    assert {level: texts for level, texts in asked if level in short} == short
    assert "2 of 14 photos" in report.prompt_table(some)
    assert found.models[0].cases[:2] == some.models[0].cases[:2]


def test_nouns_in_order(tmp_path):
    rows = [
        ["s", f"{n:02d}", "noun", text, "0.1,0.1,0.3,0.3"] for n in range(3) for text in ("a Jug", "the harp")
    ]
    rows += [["s", "00", "rel", "a drum", "0,0,0.1,0.1"]] * 3 + [
        ["s", "00", "noun", "an anvil", "0,0,0.1,0.1"]
    ] * 2
    phrases = PhraseSet(table(tmp_path, rows, [("s", f"{n:02d}", 10) for n in range(3)]))

    class Jugs(Finder):
        def maps(self, photo, texts):
            del photo
            spots = {"a Jug": (2, 1)}
            found = [np.zeros((10, 10), np.float32) for _ in texts]
            for text, values in zip(texts, found, strict=True):
                values[spots.get(text, (7, 7))] = 1
            return found

    found = prompts.evaluate_prompts([Jugs()], phrases, "all", Bootstrap(5))
    assert found.models[0].nouns == [scores.Noun("harp", 3, 0, 0), scores.Noun("jug", 3, 1, 0)]
    # Nothing of either map lies in the harps' boxes; told of a jug, all does.
    assert found.models[0].rows["rel"].lift is None
    assert "-" in report.prompt_table(found)
    lines = report.prompt_table(found).splitlines()
    row = next(line for line in lines if line.startswith("harp"))
    assert row.split() == ["harp", "3", "0.00", "0.00", "jug", "3", "1.00", "0.00"]
    assert "worst nouns" not in report.prompt_table(found, worst=0)


def test_json_and_summary(found):
    raw = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (raw["kind"], raw["format_version"], raw["split"], raw["margin"]) == ("pointing", 1, "all", 0.02)
    (model,) = raw["models"]
    assert model["bundle"] == "0123456789abcdef"
    assert list(model["rows"]["noun"]) == [
        "cases", "photos", "told", "untold", "lift", "at_random", "box_area",
    ]  # fmt: skip
    assert model["rows"]["noun"]["told"] == [1, 1, 1]
    assert model["absence"]["text_effect"]["auc"] == [1, 1, 1]
    assert "cases" not in model
    assert scores.PromptEvaluation.summary(raw) == {
        "pointing labels all": {
            "photos": 14,
            "all": {"cases": 28, "told": 0.5, "untold": 0.5, "lift": 1.1012},
            "noun": {"cases": 14, "told": 1.0, "untold": 0.0, "lift": 1.25},
            "attr": {"cases": 14, "told": 0.0, "untold": 1.0, "lift": 0.9524},
            "absence": {"text_effect_auc": 1.0, "text_effect_auc_matched": 1.0},
        }
    }
    with pytest.raises(DataError, match="scores of kind None, format None were given, pointing, 1 was"):
        scores.PromptEvaluation.summary({})


def test_csv_has_a_line_for_each_text(found, tmp_path):
    report.write_prompt_csv([found], tmp_path / "cases.csv")
    with (tmp_path / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 28
    assert tuple(rows[0]) == report.PROMPT_CSV_COLUMNS
    assert {rows[0][name] for name in ("told", "peak_x", "peak_y")} == {"1", "0.1500"}
    assert (rows[0]["set"], rows[0]["image"], rows[0]["text"]) == ("first", "00", "the anvil")
    assert rows[1]["boxes"] == "0.500,0.500,0.900,1.000"
    assert float(rows[0]["lift"]) == pytest.approx(1.25)


def test_cases_of_the_sheet(found):
    cases = found.models[0].cases
    shown = pictures.sheet_cases(cases, 4)
    assert [case.told for case in shown] == [1, 0, 1, 0]
    assert len({case.photo for case in shown}) == 4
    assert pictures.sheet_cases(cases, 4) == shown
    assert len(pictures.sheet_cases(cases, 99)) == 14
    missed = [replace(case, told=0.0) for case in cases]
    assert [case.told for case in pictures.sheet_cases(missed, 3)] == [0, 0, 0]
    # Hits of free viewing stand in where there are no others.
    alike = [replace(case, told=1.0, untold=1.0) for case in cases]
    assert [case.told for case in pictures.sheet_cases(alike, 3)] == [1, 1]


def test_sheet(words, found):
    shown = pictures.sheet_cases(found.models[0].cases, 2)
    picture = pictures.prompt_sheet([Finder()], words, shown)
    # A heading of 36, and twice a caption, a photo of 40x60 that fills 400 pixels, and a gap.
    assert picture.shape == (36 + 2 * (36 + 267 + 8), 3 * 400 + 2 * 8, 3)
    wide = pictures.prompt_sheet([Finder(), Finder()], words, shown[:1])
    assert wide.shape[1] == 5 * 400 + 4 * 8


def test_what_cannot_be_asked(words, tmp_path):
    with pytest.raises(DataError, match="no photos in split 'holiday', only in test, train, validation"):
        prompts.evaluate_prompts([Finder()], words, "holiday", Bootstrap(5))
    whole = PhraseSet(table(tmp_path, [["s", "a", "noun", "a drum", ""]], [("s", "a", 0)]))
    with pytest.raises(DataError, match="no text in split 'all' whose boxes cover 0 to 60 %"):
        prompts.evaluate_prompts([Finder()], whole, "all", Bootstrap(5))


def test_without_absent_texts(tmp_path):
    phrases = PhraseSet(table(tmp_path, [["s", "a", "thing", "a drum", "0,0,0.5,0.5"]], [("s", "a", 0)]))
    found = prompts.evaluate_prompts([Finder()], phrases, "all", Bootstrap(5))
    assert found.models[0].absence is None
    assert list(found.models[0].rows) == ["all", "thing"]
    assert scores.PromptEvaluation.summary(found.to_dict())["pointing labels all"]["absence"] is None
    assert "present or absent" not in report.prompt_table(found)


# The command


@pytest.fixture
def two_photos(tmp_path):
    rows = [
        ["s", "a.png", "noun", "a bright square / the square", "0.5,0.25,0.75,0.5"],
        ["s", "b.png", "noun", "the kettle", "0.1,0.1,0.3,0.3"],
    ]
    path = table(tmp_path / "data", rows, [("s", "a", 40), ("s", "b", 60)])
    pixels = np.full((80, 120, 3), 40, np.uint8)
    pixels[20:40, 60:90] = 250
    write_image(tmp_path / "data" / "s" / "images" / "a.png", pixels)
    return path


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    (tmp_path / "data").mkdir(exist_ok=True)


def test_the_command_on_the_embedded_bundle(run, two_photos, tmp_path):
    options = ("--prompts", two_photos, "--split", "all", "--resamples", 20, "--device", "cpu")
    code, out, err = run(
        "evaluate", *options, "--csv", "cases.csv", "--sheet", "sheet.png", "--sheet-photos", 2
    )
    assert (code, err) == (0, "")
    assert "labels, split all: 2 photos, 2 texts (first wording of each row)" in out
    assert "20 bootstrap samples" in out
    assert "condition" not in out
    assert len((tmp_path / "cases.csv").read_text().splitlines()) == 3
    assert read_image(tmp_path / "sheet.png").shape[1] == 3 * 400 + 2 * 8
    code, out, _ = run("evaluate", *options, "--json", "--all-wordings", "--prompts", two_photos)
    assert code == 0
    raw = json.loads(out)
    assert raw["data"] == []
    assert [found["kind"] for found in raw["prompts"]] == ["pointing", "pointing"]
    assert raw["prompts"][0]["texts"] == 3
    assert raw["prompts"][0]["models"][0]["rows"]["noun"]["cases"] == 2


def test_gaze_and_texts_in_one_call(run, two_photos, gaze_data, tmp_path):
    options = ("--gaze", gaze_data / "sjtu_tis", "--prompts", two_photos, "--split", "all", "--limit", 1)
    options += ("--baseline", "none", "--resamples", 5, "--device", "cpu")
    code, out, err = run(
        "evaluate", *options, "--csv", "both.csv", "--sheet", "both.png", "--sheet-photos", 1
    )
    assert (code, err) == (0, "")
    assert out.index("sjtu_tis, split all") < out.index("labels, split all")
    assert (tmp_path / "both.csv").read_text().startswith("data,split,model")
    assert (tmp_path / "both-prompts.csv").read_text().startswith("table,model,bundle")
    assert read_image(tmp_path / "both.png").shape[1] == 3 * 400 + 2 * 8
    code, out, _ = run("evaluate", *options, "--json")
    raw = json.loads(out)
    assert (len(raw["data"]), len(raw["prompts"])) == (1, 1)


def test_photos_elsewhere(run, two_photos, tmp_path):
    moved = tmp_path / "far" / "off" / "and" / "away" / "labels.csv"
    moved.parent.mkdir(parents=True)
    two_photos.rename(moved)
    options = ("--prompts", moved, "--split", "all", "--resamples", 5, "--device", "cpu")
    code, _, err = run("evaluate", *options)
    assert code == 1
    assert err.count("\n") == 1
    assert "no file of photo s/a.png" in err
    assert run("evaluate", *options, "--prompts-data", tmp_path / "data")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a gaze folder with --gaze"),
        (["--prompts", "labels.csv", "--objects", "detector.onnx"], "needs --gaze"),
        (["--prompts", "labels.csv", "--paper-tables"], "needs --gaze"),
        (["--gaze", "gaze", "--prompts-data", "folder"], "needs --prompts"),
        (["--gaze", "gaze", "--all-wordings"], "needs --prompts"),
        (["--prompts", "labels.csv", "--worst", "-1"], "--worst"),
    ],
)
def test_wrong_usage(run, arguments, message):
    code, _, err = run("evaluate", *arguments)
    assert code == 2
    assert message in err


def test_wrong_inputs_are_told_in_a_line(run, two_photos, tmp_path):
    code, _, err = run("evaluate", "--prompts", "nowhere.csv")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("error: cannot read nowhere.csv")
    (tmp_path / "wrong.csv").write_text("name,place\na,b\n")
    code, _, err = run("evaluate", "--prompts", "wrong.csv")
    assert (code, err.count("\n")) == (1, 1)
    assert "has the columns name, place: set, image" in err
    code, _, err = run("evaluate", "--prompts", two_photos, "--split", "test")
    assert (code, err.count("\n")) == (1, 1)
    assert "no photos in split 'test', only in train" in err
