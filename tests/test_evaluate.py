"""Evaluation: intervals, baselines, the pointing game, and every form of output."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from salgan_edge import metrics
from salgan_edge.bundle import default_bundle
from salgan_edge.console import text_table
from salgan_edge.errors import DataError
from salgan_edge.evaluate import Baseline, measure, pictures, pointing, report
from salgan_edge.evaluate.measure import OtherFixations, mean_map, pairs_of
from salgan_edge.evaluate.models import Constant, SpectralResidual, centre_gaussian, resized
from salgan_edge.evaluate.report import NOTE, paper_tables
from salgan_edge.evaluate.scores import Bootstrap, DataScores, Estimate, Evaluation, ModelScores, Row
from salgan_edge.gaze.detector import Detection
from salgan_edge.gaze.folder import GazeFolder, photos
from salgan_edge.images import read_image
from salgan_edge.metrics import METRICS
from tools.golden import photo as golden_photo

CONDITIONS = ["pure", "general", "salient", "nonsalient"]


@pytest.fixture(scope="module")
def folder(gaze_data):
    return GazeFolder(gaze_data / "sjtu_tis")


class Oracle:
    """Knows where people looked; `swapped` mixes up salient and non-salient texts."""

    bundle = "0123456789abcdef"

    def __init__(self, folder, name="oracle", swapped=False):
        self.name = name
        self._folder = folder
        self._pairs = {pair.text: pair for pair in folder.pairs if pair.text}
        self._pure = {folder.image(p.image).tobytes(): p for p in folder.pairs if not p.text}
        self._swapped = swapped

    def maps(self, photo, texts):
        exchange = {"salient": "nonsalient", "nonsalient": "salient"} if self._swapped else {}
        found = []
        for text in texts:
            pair = self._pairs[text] if text else self._pure[photo.tobytes()]
            wanted = exchange.get(pair.condition, pair.condition)
            same = next(p for p in self._folder.pairs if (p.image, p.condition) == (pair.image, wanted))
            found.append(self._folder.saliency_map(same))
        return found


# Intervals


def test_interval_by_hand():
    assert Bootstrap().estimate([0.25, 0.75], ["a", "a"]) == Estimate(0.5, 0.5, 0.5)
    # Two photos: both values, or one of them twice.
    assert Bootstrap().estimate([0.0, 1.0], ["a", "b"]) == Estimate(0.5, 0.0, 1.0)
    assert Bootstrap().estimate([np.nan, 1.0], ["a", "b"]) == Estimate(1.0, 1.0, 1.0)
    assert Bootstrap().estimate([np.nan], ["a"]) is None
    assert Bootstrap().estimate([], []) is None
    with pytest.raises(ValueError, match="resamples is 0"):
        Bootstrap(resamples=0)


def test_interval_of_many_photos_is_the_normal_one():
    values = np.random.default_rng(0).normal(size=400)
    found = Bootstrap(4000).estimate(values, [str(n) for n in range(400)])
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_photos_are_drawn_whole_and_by_seed():
    values = np.random.default_rng(0).random(30)
    names = [str(n) for n in range(30)]
    once = Bootstrap().estimate(values, names)
    # Ten equal texts of each photo tell nothing new.
    often = Bootstrap().estimate(np.repeat(values, 10), np.repeat(names, 10))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    assert Bootstrap(seed=1).estimate(values, names) != once
    assert Bootstrap().estimate(values, names) == once


# The human side


def test_other_fixations_by_brute_force(folder):
    pairs = pairs_of(folder, "all")
    others = OtherFixations(folder, pairs)
    pair = pairs[5]
    expected = np.zeros((30, 40), int)
    for other in pairs:
        if other.condition == pair.condition and other.image != pair.image:
            expected += folder.fixation_map(other, (30, 40))
    assert (others.of(pair, (30, 40)) == expected).all()
    assert expected.sum() == 13 * 30


def test_pairs_of_a_split(folder):
    assert len(pairs_of(folder, "all")) == 56
    assert {pair.split for pair in pairs_of(folder, "test")} == {"test"}
    with pytest.raises(DataError, match="no photos in split 'holiday', only in test, train, validation"):
        pairs_of(folder, "holiday")


def test_mean_map_is_of_the_training_split(folder):
    values, source = mean_map(folder, [], side=16)
    train = [resized(folder.saliency_map(pair), (16, 16)) for pair in folder.select("train")]
    assert source == "train"
    assert values == pytest.approx(sum(train) / len(train), abs=1e-6)


def test_mean_map_without_training_photos(folder, monkeypatch):
    pairs = folder.select("test")
    monkeypatch.setattr(folder, "select", lambda split: [] if split == "train" else pairs)
    values, source = mean_map(folder, pairs, side=16)
    assert source == "evaluated"
    assert values.max() > 0


# Baselines


def test_spectral_residual_is_opencvs():
    golden = json.loads((Path(__file__).parent / "golden" / "spectral_residual.json").read_text())
    found = SpectralResidual().residual(golden_photo())
    assert found.shape == (64, 64)
    # OpenCV's angles have about four digits.
    assert found[::4, ::4] == pytest.approx(np.array(golden["saliency"]), abs=1e-3)


@pytest.mark.parametrize("level", [0, 7, 255])
def test_spectral_residual_of_one_colour(level):
    found = SpectralResidual().residual(np.full((40, 60, 3), level, np.uint8))
    assert np.isfinite(found).all()


def test_centre_gaussian():
    values = centre_gaussian(80)
    assert np.unravel_index(values.argmax(), values.shape) in [(39, 39), (39, 40), (40, 39), (40, 40)]
    # One standard deviation, a quarter of the side, from the middle.
    assert values[39, 59] / values[39, 39] == pytest.approx(np.exp(-0.5), abs=0.02)


# Scores


@pytest.fixture(scope="module")
def scores(folder):
    models = [Oracle(folder), Oracle(folder, "swapped", swapped=True)]
    return measure.evaluate_folder(models, folder, "all", Bootstrap(50), baselines=list(Baseline))


def test_scores_of_an_oracle(scores):
    oracle, swapped, *baselines = scores.models
    assert [model.name for model in baselines] == ["mean map", "centre Gaussian", "spectral residual"]
    assert list(oracle.rows) == ["all", *CONDITIONS]
    assert (oracle.rows["all"].pairs, oracle.rows["all"].photos) == (56, 14)
    assert (oracle.rows["pure"].pairs, oracle.rows["pure"].photos) == (14, 14)
    told = oracle.rows["all"].metrics
    assert list(told) == list(METRICS)
    assert told["CC"].mean == pytest.approx(1)
    assert told["KL"].mean == pytest.approx(0, abs=1e-9)
    assert told["AUC-Judd"].mean > 0.95
    assert told["IG"].mean > 0.5
    assert oracle.guide == Estimate(1, 1, 1)
    assert oracle.guide_photos == 14
    assert oracle.less_first is None
    assert swapped.guide == Estimate(0, 0, 0)
    assert swapped.rows["pure"] == oracle.rows["pure"]
    difference = swapped.rows["all"].metrics["CC"].mean - told["CC"].mean
    assert swapped.less_first["CC"].mean == pytest.approx(difference)
    assert swapped.less_first["CC"].high < 0


def test_baselines_know_no_text(scores):
    for model in scores.models[2:]:
        assert model.guide.mean == 0.5
        assert model.bundle is None
    constant = scores.models[2].rows["all"].metrics
    assert constant["IG"] == Estimate(0, 0, 0)
    assert constant["CC"].mean < scores.models[0].rows["all"].metrics["CC"].mean


def test_scores_are_the_metrics(folder):
    """One pair, scored by hand; the limit does not change what the others are."""
    values = np.random.default_rng(0).random((48, 64)).astype(np.float32)
    model = Constant(values, "noise")
    found = measure.evaluate_folder([model], folder, "all", Bootstrap(5), limit=1)
    assert (found.photos, found.photos_of_split, found.pairs) == (1, 14, 4)
    pair = next(p for p in pairs_of(folder, "all") if p.condition == "salient")
    human = folder.saliency_map(pair)
    shape = human.shape
    others = [p for p in folder.pairs if p.condition == "salient" and p.image != pair.image]
    looked = metrics.Gaze(
        human,
        folder.fixation_map(pair, shape),
        sum(folder.fixation_map(other, shape) for other in others),
        resized(mean_map(folder, [])[0], shape),
    )
    told = found.models[0].rows["salient"].metrics
    for name, metric in METRICS.items():
        assert told[name].mean == pytest.approx(metric.of(resized(values, shape), looked)), name


def test_a_new_metric_is_everywhere(folder, tmp_path, monkeypatch):
    """A row of the registry is all that a metric needs for the table, the JSON and the CSV."""
    highest = metrics.Metric(
        lambda predicted, _gaze: float(predicted.max()), smaller_is_better=True, note="MAX has no unit."
    )
    monkeypatch.setitem(METRICS, "MAX", highest)
    model = Constant(np.full((4, 4), 0.25, np.float32), "flat")
    found = measure.evaluate_folder([model], folder, "test", Bootstrap(5))
    evaluation = Evaluation(1, 5, 0, [found])
    text = report.gaze_table(evaluation)
    assert next(line for line in text.splitlines() if "pairs  " in line).split()[-2:] == ["IG", "MAX"]
    assert "KL and MAX are better when smaller" in text
    assert "MAX has no unit." in text
    row = evaluation.to_dict()["data"][0]["models"][0]["rows"]["all"]
    assert row["metrics"]["MAX"] == {"mean": 0.25, "low": 0.25, "high": 0.25}
    report.write_csv(evaluation, tmp_path / "scores.csv")
    assert "flat,,all,MAX,0.250000" in (tmp_path / "scores.csv").read_text()


def test_maps_without_fixations(folder, monkeypatch):
    empty = np.zeros((0, 2))
    monkeypatch.setattr(folder, "fixations", lambda _pair: empty)
    monkeypatch.setattr(folder, "fixation_map", lambda _pair, shape: np.zeros(shape, np.int32))
    human = np.outer(np.arange(24), np.arange(32)).astype(np.float32)
    monkeypatch.setattr(folder, "saliency_map", lambda _pair: human)
    model = Constant(human, "all")
    found = measure.evaluate_folder([model], folder, "test", Bootstrap(5))
    told = found.models[0].rows["all"].metrics
    assert told["CC"].mean == pytest.approx(1)
    assert {metric for metric, value in told.items() if value is None} == {"NSS", "AUC-Judd", "sAUC", "IG"}
    evaluation = Evaluation(1, 5, 0, [found])
    assert evaluation.to_dict()["data"][0]["models"][0]["rows"]["all"]["metrics"]["NSS"] is None
    assert " - " in report.gaze_table(evaluation)


def test_some_of_spreads():
    groups = [[n] for n in range(10)]
    assert measure.some_of(groups, None) == groups
    assert measure.some_of(groups, 20) == groups
    assert measure.some_of(groups, 3) == [[0], [3], [6]]


# The pointing game


def test_which_objects_count():
    def box(name, side):
        return Detection(name, 0.9, (0.0, 0.0, side, side))

    found = [box("dog", 0.3), box("cat", 0.3), box("cat", 0.4), box("bird", 0.05), box("bed", 0.9)]
    assert [target.name for target in pointing.single_objects(found)] == ["dog"]


class Boxes:
    def objects(self, photo):
        del photo
        return [
            Detection("dog", 0.9, (0.0, 0.0, 0.5, 0.5)),
            Detection("orange", 0.9, (0.5, 0.5, 0.9, 0.9)),
            Detection("cat", 0.9, (0.5, 0.0, 0.9, 0.4)),
        ]


class Pointer:
    """Finds the dog and the orange, never the cat; without text it looks at the orange."""

    name, bundle = "pointer", "fedcba9876543210"

    def maps(self, photo, texts):
        places = {"a dog": (5, 5), "an orange": (40, 50), "a cat": (47, 0), None: (40, 50)}
        found = []
        for text in texts:
            values = np.zeros(photo.shape[:2], np.float32)
            values[places.get(text, (0, 0))] = 1
            found.append(values)
        return found


def test_pointing_game(folder):
    found = measure.evaluate_folder(
        [Pointer()], folder, "test", Bootstrap(50), baselines=[Baseline.centre], boxes=Boxes()
    )
    game = found.models[0].pointing
    assert game.cases == 3 * found.photos
    assert game.photos == found.photos
    assert game.hits.mean == pytest.approx(2 / 3)
    assert game.free_viewing.mean == pytest.approx(1 / 3)
    assert game.box_area == pytest.approx((0.25 + 0.16 + 0.16) / 3)
    assert found.models[1].pointing is None
    assert "pointing game 0.667" in report.gaze_table(Evaluation(1, 50, 0, [found]))


class Detector:
    calls = 0

    def __init__(self, path):
        del path

    def detect(self, photo):
        del photo
        Detector.calls += 1
        return [Detection("dog", 0.75, (0.0, 0.25, 0.5, 1.0))]


def test_boxes_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(pointing, "Detector", Detector)
    monkeypatch.setattr(Detector, "calls", 0)
    (tmp_path / "detector.onnx").write_bytes(b"one")
    first, second = np.zeros((4, 6, 3), np.uint8), np.zeros((6, 4, 3), np.uint8)
    cache = tmp_path / "boxes.json"
    boxes = pointing.DetectedBoxes(tmp_path / "detector.onnx", cache)
    found = boxes.objects(first)
    boxes.objects(first)
    boxes.objects(second)
    assert Detector.calls == 2
    boxes.save()
    again = pointing.DetectedBoxes(tmp_path / "detector.onnx", cache)
    assert again.objects(first) == found
    assert Detector.calls == 2
    (tmp_path / "detector.onnx").write_bytes(b"another")
    pointing.DetectedBoxes(tmp_path / "detector.onnx", cache).objects(first)
    assert Detector.calls == 3


def test_unusable_detector_and_cache(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="does not exist"):
        pointing.DetectedBoxes(tmp_path / "no.onnx")
    pytest.importorskip("onnx")
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    with pytest.raises(DataError, match="cannot be used as detector"):
        pointing.DetectedBoxes(tmp_path / "no.onnx")
    monkeypatch.setattr(pointing, "Detector", Detector)
    (tmp_path / "cache.json").write_text("[1]")
    with pytest.raises(DataError, match="not a cache of objects"):
        pointing.DetectedBoxes(tmp_path / "no.onnx", tmp_path / "cache.json")


DETECTOR = Path(__file__).parent.parent.parent / "shared" / "weights" / "yolox_nano_coco.onnx"


@pytest.mark.shared
@pytest.mark.skipif(not DETECTOR.exists(), reason="needs ../shared/weights")
def test_detector_without_torch():
    pytest.importorskip("onnx")
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from salgan_edge.images import read_image\n"
        "from salgan_edge.evaluate.pointing import DetectedBoxes\n"
        f"found = DetectedBoxes(Path({str(DETECTOR)!r})).objects(read_image(Path(sys.argv[1])))\n"
        "print(sorted({d.name for d in found}), 'torch' in sys.modules)"
    )
    photo = Path(__file__).parent.parent / "samples" / "chelsea.jpg"
    done = subprocess.run(
        [sys.executable, "-c", script, str(photo)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["['cat']", "False"]


# Output


def test_json_is_documented_and_stable(scores):
    raw = json.loads(json.dumps(Evaluation(1, 50, 0, [scores]).to_dict(), allow_nan=False))
    assert set(raw) == {"format_version", "resamples", "seed", "data"}
    assert raw["format_version"] == 1
    (data,) = raw["data"]
    assert set(data) == {
        "data", "split", "photos", "pairs", "photos_of_split", "baseline_from", "models",
    }  # fmt: skip
    assert set(data["models"][0]) == {
        "name", "bundle", "rows", "guide", "guide_photos", "less_first", "pointing",
    }  # fmt: skip
    row = data["models"][0]["rows"]["salient"]
    assert set(row) == {"pairs", "photos", "metrics"}
    assert set(row["metrics"]["CC"]) == {"mean", "low", "high"}
    summary = Evaluation.summary(raw)
    assert summary["sjtu_tis all"]["guide"] == 1
    assert summary["sjtu_tis all"]["salient"]["CC"] == 1
    assert summary["sjtu_tis all"]["photos"] == 14
    with pytest.raises(DataError, match="scores of format None"):
        Evaluation.summary({"rows": {}})


def test_csv(scores, tmp_path):
    report.write_csv(Evaluation(1, 50, 0, [scores]), tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == report.CSV_COLUMNS
    # Five models with five rows of seven metrics, and a guide each.
    assert len(rows) == 5 * (5 * 7 + 1)
    (row,) = [r for r in rows if (r["model"], r["condition"], r["metric"]) == ("oracle", "pure", "CC")]
    assert (row["data"], row["split"], row["bundle"]) == ("sjtu_tis", "all", "0123456789abcdef")
    assert float(row["mean"]) == pytest.approx(1)
    assert (row["pairs"], row["photos"]) == ("14", "14")


def test_plain_tables():
    """Least widths hold, full columns stay apart, and brackets are no markup."""
    rows = [("a", 1), ("[bold]b", "0.5 [0.1, 0.9]"), ("c",)]
    assert text_table([("", 3), ("long heading", 17)], rows) == [
        "            long heading",
        "a                      1",
        "[bold]b   0.5 [0.1, 0.9]",
        "c",
    ]
    assert text_table([("head", 12), ("x", 6)], [("a", 1)]) == ["head             x", "a                1"]
    assert text_table([("", 3), ("x", 2)], rows)[2] == "[bold]b 0.5 [0.1, 0.9]"


def test_text_table(scores):
    text = report.gaze_table(Evaluation(1, 50, 0, [scores]))
    assert "sjtu_tis, split all: 14 photos, 56 pairs" in text
    assert "oracle (bundle 0123456789abcdef)" in text
    assert "guide 1.000 [1.000, 1.000]" in text
    assert "less the first" in text
    assert max(len(line) for line in text.splitlines()) <= 120


def model_scores(name, value):
    rows = {
        condition: Row(1, 1, {metric: Estimate(value, value, value) for metric in METRICS})
        for condition in ("all", "pure", "salient", "nonsalient", "general+whole")
    }
    return ModelScores(name, f"id-{name}", rows, None, 0, None, None)


def test_paper_tables_take_group_models_by_label():
    models = [model_scores("mine", 0.1), model_scores("salient", 0.2), model_scores("nonsalient", 0.3)]
    text = paper_tables(DataScores("sjtu_tis", "test", 9, 9, 9, "train", models))
    second, third, fourth = text.split("\n\nTable ")[1:]
    assert second.startswith("II, one model for all data (ours: mine (id-mine))")
    lines = second.splitlines()
    assert lines[1].split() == ["AUC", "sAUC", "CC", "NSS"]
    assert [line.split("ours")[0].strip() for line in lines[2::2]] == [
        "Type 2", "Type 3", "Type 4 & Type 1", "Pure", "ALL",
    ]  # fmt: skip
    assert lines[2].split() == ["Type", "2", "ours", "0.1000", "0.1000", "0.1000", "0.1000"]
    assert lines[3].split() == ["paper", "0.7631", "0.6317", "0.5485", "0.4188"]
    assert "salient (id-salient) and nonsalient (id-nonsalient)" in third
    assert "0.2000/0.3000" in third
    assert "0.3948/0.4104" in third
    # No model of the general group was compared, so the evaluated one stands in.
    assert "(ours: mine (id-mine))" in fourth
    assert text.endswith(NOTE)


def test_example_photos_show_every_kind(folder, monkeypatch):
    groups = pictures.example_photos(folder, "all", 3)
    assert len({group[0].image for group in groups}) == 3
    # Photos with fewer texts are a kind of their own.
    fewer = [p for p in folder.pairs if p.image != "0003" or p.condition == "pure"]
    monkeypatch.setattr(folder, "pairs", fewer)
    groups = pictures.example_photos(folder, "all", 3)
    assert [len(group) for group in groups] == [4, 4, 1]
    assert len(pictures.example_photos(folder, "all", 1)) == 1


def test_sheet_of_examples(folder):
    groups = list(photos(pairs_of(folder, "test")).values())[:1]
    sheet = pictures.example_sheet([Oracle(folder), Oracle(folder, "swapped", swapped=True)], folder, groups)
    # Photo, people and two models; headings and four rows of 240 pixels with captions.
    assert sheet.shape == (36 + 4 * (36 + 240 + 8), 4 * 320 + 3 * 8, 3)
    rows = [sheet[36 + n * 284 + 36 :][:240] for n in range(4)]
    people, oracle, swapped = (slice(328 * n, 328 * n + 320) for n in (1, 2, 3))
    assert (rows[2][:, people] == rows[2][:, oracle]).all()
    # Rows are pure, general, salient, nonsalient.
    assert (rows[2][:, people] == rows[3][:, swapped]).all()
    assert (rows[2][:, people] != rows[3][:, people]).any()


# The command


def test_command_with_everything(run, gaze_data, tmp_path):
    data, bundle = gaze_data / "sjtu_tis", default_bundle()
    code, out, err = run(
        "evaluate", "--data", data, "--data", data, "--split", "test", "--limit", 1, "--baseline", "none",
        "--compare", f"salient={bundle}", "--compare", bundle, "--paper-tables",
        "--csv", "scores.csv", "--sheet", "sheet.png", "--sheet-photos", 1, "--resamples", 10,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.count("sjtu_tis, split test: 1 of 2 photos, 4 pairs") == 2
    assert out.count("Table III") == 2
    assert "+0.000" in out
    assert "10 bootstrap samples" in out
    assert read_image(tmp_path / "sheet.png").shape[1] == 5 * 328 - 8
    models = {line.split(",")[2] for line in (tmp_path / "scores.csv").read_text().splitlines()[1:]}
    assert len(models) == 3
    assert "salient" in models


def test_evaluation_of_the_default_bundle(run, gaze_data):
    code, out, _ = run("evaluate", "--data", gaze_data / "sjtu_tis", "--json", "--baseline", "mean-map")
    raw = json.loads(out)
    assert (code, set(raw)) == (0, {"format_version", "resamples", "seed", "data"})
    (data,) = raw["data"]
    assert (data["split"], data["photos"]) == ("validation", 2)
    bundle, constant = data["models"]
    assert list(bundle["rows"]) == ["all", *CONDITIONS]
    parts = [bundle["rows"][c]["metrics"]["CC"]["mean"] for c in CONDITIONS]
    assert bundle["rows"]["all"]["metrics"]["CC"]["mean"] == pytest.approx(np.mean(parts))
    assert 0 <= bundle["guide"]["mean"] <= 1
    assert constant["name"] == "mean map"


def test_evaluation_loads_no_torch(gaze_data):
    script = (
        "import sys\n"
        f"sys.argv = ['salgan-edge', 'evaluate', '--data', {str(gaze_data / 'sjtu_tis')!r}, '--limit', '1']\n"
        "from salgan_edge.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 0, stop.code\n"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "onnxruntime" in modules
    assert not {"torch", "transformers", "onnx", "safetensors"} & modules


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (2, ["--objects-cache", "boxes.json"], "needs --objects"),
        (2, ["--json", "--paper-tables"], "leave out --json"),
        (2, ["--sheet", "sheet.txt"], "no suffix of an image"),
        (2, ["--baseline", "luck"], "luck"),
        (2, ["--compare", "a=small", "--compare", "a=small"], "the label a occurs twice"),
        (1, ["--data", "empty"], "error: empty has no pairs.csv"),
        (1, ["--compare", "other=empty"], "bundle.json"),
        (1, ["--objects", "no.onnx"], "no.onnx does not exist"),
    ],
)
def test_what_is_refused(run, gaze_data, tmp_path, code, arguments, message):
    (tmp_path / "empty").mkdir()
    found, out, err = run("evaluate", "--data", gaze_data / "sjtu_tis", *arguments)
    assert (found, out) == (code, "")
    assert message in err
