"""What a reduced precision is judged by, and on which photos."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from salgan_edge.export.gate import (
    CALIBRATION_PROMPTS,
    GATE_PROMPTS,
    HUMAN,
    SELF,
    Judge,
    Limits,
    View,
    read_views,
)
from salgan_edge.export.precision import read_processor

from salgan_edge import SaliencyPredictor, samples
from salgan_edge.errors import DataError

random = np.random.default_rng(0)


def bump(x, y, side=32):
    rows, columns = np.mgrid[0:side, 0:side]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 20).astype(np.float32)


def view(human=()):
    photo = np.zeros((120, 160, 3), np.uint8)
    return View("one", photo, (None, "a", "b"), human=tuple(human), guided=((1, 2),))


MAPS = np.stack([bump(16, 16), bump(8, 8), bump(24, 20)])


def test_the_same_maps_pass():
    result = Judge([view()], [MAPS], Limits()).judge([MAPS])
    assert (result.reference, result.photos, result.pairs, result.guide_pairs) == (SELF, 1, 3, 1)
    assert (result.cc_fp32, result.cc) == pytest.approx((1, 1))
    assert (result.guide_fp32, result.guide, result.peaks_within, result.peak_move) == (1, 1, 1, 0)
    assert result.passed
    assert result.to_dict()["failures"] == []


def test_exchanged_maps_fail_every_limit():
    exchanged = MAPS[[0, 2, 1]]
    result = Judge([view()], [MAPS], Limits()).judge([exchanged])
    assert (result.guide, result.guide_drop) == (0, 1)
    # One of three maps is where it was. The others' peaks are 16 and 12 cells of 32 apart, in a photo of 160x120.
    assert result.peaks_within == pytest.approx(1 / 3)
    assert result.peak_move == pytest.approx(np.hypot(16 / 32 * 160, 12 / 32 * 120) / 200, abs=0.01)
    assert result.cc == pytest.approx((1 + 2 * np.corrcoef(MAPS[1].ravel(), MAPS[2].ravel())[0, 1]) / 3)
    assert len(result.failures) == 3
    assert result.failures[1] == "guide drops by 1.0000 (at most 0.02)"


def test_a_loss_of_the_limit_passes_and_more_fails():
    noise = random.normal(size=MAPS.shape).astype(np.float32) * 0.01
    judge = Judge([view()], [MAPS], Limits())
    loss = judge.judge([MAPS + noise]).cc_drop
    assert 0 < loss < 0.1
    for limit, passed in ((loss, True), (0.99 * loss, False)):
        judge = Judge([view()], [MAPS], Limits(cc_drop=limit, guide_drop=1, peak_share=0))
        assert judge.judge([MAPS + noise]).passed is passed


def test_overflow_fails():
    broken = MAPS.copy()
    broken[1, 3, 3] = np.nan
    result = Judge([view()], [MAPS], Limits()).judge([broken])
    assert not result.passed
    assert result.cc == pytest.approx(2 / 3)


def test_fp32_maps_that_are_alike_decide_nothing():
    alike = np.stack([MAPS[0], MAPS[1], MAPS[1] + 1e-4 * MAPS[2]])
    result = Judge([view()], [alike], Limits()).judge([alike])
    assert (result.guide_pairs, result.guide, result.guide_drop) == (0, None, 0)
    assert result.passed


def test_a_variant_may_gain_against_human_maps():
    human = [bump(32, 32, 64), bump(16, 16, 64), bump(48, 40, 64)]
    worse = np.stack([MAPS[0], MAPS[2], MAPS[1]])
    result = Judge([view(human)], [worse], Limits(peak_share=0)).judge([MAPS])
    assert result.reference == HUMAN
    assert (result.guide_fp32, result.guide) == (0, 1)
    assert result.cc_drop < 0
    assert result.passed


def test_scores_are_those_of_the_evaluation(gaze_data, tiny_bundle):
    """CC and guide of fp32 against `salgan-edge evaluate`, which goes through the predictor."""
    from salgan_edge.evaluate.measure import evaluate_folder
    from salgan_edge.evaluate.models import BundleModel
    from salgan_edge.evaluate.scores import Bootstrap
    from salgan_edge.gaze.folder import GazeFolder

    views = read_views(gaze_data / "sjtu_tis")
    predictor = SaliencyPredictor.load(tiny_bundle, device="cpu")
    maps = []
    for one in views.gate:
        vectors = np.stack([predictor.embed([t])[0] if t else np.zeros(512, np.float32) for t in one.texts])
        maps.append(grids(tiny_bundle, one, vectors))
    result = Judge(views.gate, maps, Limits()).judge(maps)
    told = evaluate_folder(
        [BundleModel(predictor, "tiny")], GazeFolder(gaze_data / "sjtu_tis"), "validation", Bootstrap(10, 0)
    )
    scores = told.models[0]
    assert (result.photos, result.pairs) == (told.photos, told.pairs)
    assert result.cc == result.cc_fp32 == pytest.approx(scores.rows["all"].metrics["CC"].mean, abs=1e-5)
    assert result.guide == pytest.approx(scores.guide.mean)


def grids(bundle, one, vectors):
    from salgan_edge.devices import Execution
    from salgan_edge.session import GraphSession

    session = GraphSession(bundle / "generator.onnx", Execution("cpu"))
    return session.run("saliency", {"image": one.photo[None], "text_embedding": vectors[None]})[0]


def test_sample_views_share_neither_photo_nor_text():
    views = read_views()
    assert not views.human
    assert {t for v in views.calibration for t in v.texts} == {None, *CALIBRATION_PROMPTS}
    assert {t for v in views.gate for t in v.texts} == {None, *GATE_PROMPTS}
    assert len(views.gate) >= 20
    for name in samples.NAMES:
        photo = samples.load(name)
        middle = photo.shape[1] // 2
        whole = {v.name: v.photo for v in (*views.calibration,)}[f"{name}, whole"]
        other = {v.name: v.photo for v in (*views.gate,)}[f"{name}, whole"]
        assert np.array_equal(whole, photo[:, :middle])
        assert np.array_equal(other, photo[:, middle:])
    again = read_views()
    assert all(np.array_equal(a.photo, b.photo) for a, b in zip(views.gate, again.gate, strict=True))


@pytest.fixture
def own_photos(tmp_path):
    from salgan_edge.images import write_image

    folder = tmp_path / "photos"
    for n in range(12):
        write_image(folder / f"{n}.png", random.integers(0, 255, (40, 50, 3)).astype(np.uint8))
    return folder


def test_own_photos_are_divided_by_their_content(own_photos):
    views = read_views(calibration=own_photos)
    left, right = ({v.name for v in side} for side in (views.calibration, views.gate))
    assert left
    assert right
    assert not left & right
    assert len(left | right) == 12
    shutil.copy(own_photos / "0.png", own_photos / "copy.png")
    again = read_views(calibration=own_photos)
    names = {v.name for v in again.gate}
    assert ("0.png" in names) == ("copy.png" in names)
    assert left <= {v.name for v in again.calibration}


def test_own_prompts_are_divided_too(own_photos):
    (own_photos / "prompts.txt").write_text("a lamp\n\na door\na lamp\nthe sky\n", encoding="utf-8")
    views = read_views(calibration=own_photos)
    assert views.calibration[0].texts == (None, "a lamp", "the sky")
    assert views.gate[0].texts == (None, "a door")
    (own_photos / "prompts.txt").write_text("a lamp\n", encoding="utf-8")
    with pytest.raises(DataError, match="at least 2"):
        read_views(calibration=own_photos)


def test_gaze_photos_of_the_training_split_calibrate(gaze_data):
    from salgan_edge.gaze.folder import GazeFolder

    folder = GazeFolder(gaze_data / "sjtu_tis")
    views = read_views(gaze_data / "sjtu_tis")
    assert views.human
    assert {v.name for v in views.gate} == {p.image for p in folder.select("validation")}
    assert {v.name for v in views.calibration} <= {p.image for p in folder.select("train")}
    assert not any(v.human for v in views.calibration)
    for one in views.gate:
        first, second = one.guided[0]
        assert ("salient" in one.texts[first], "nonsalient" in one.texts[second]) == (True, True)


def test_too_few_photos(tmp_path, own_photos):
    for path in sorted(own_photos.iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError, match=r"1 photos, of which . fall to calibration"):
        read_views(calibration=own_photos)
    with pytest.raises(DataError, match="is no folder"):
        read_views(calibration=tmp_path / "nothing")


@pytest.mark.parametrize(
    ("text", "model", "vnni"),
    [
        ("model name\t: AMD X\nflags\t\t: fpu avx2 avx512_vnni\n", "AMD X", True),
        ("model name\t: Intel Y\nflags\t\t: fpu avx2 avx_vnni\n", "Intel Y", True),
        ("model name\t: Old Z\nflags\t\t: fpu avx2\n", "Old Z", False),
        ("Model\t: Board\nFeatures\t: fp asimd asimddp\n", "Board", True),
        ("processor : 0\n", "unknown", None),
    ],
)
def test_processor(tmp_path, text, model, vnni):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    found = read_processor(path)
    assert (found.model, found.vnni) == (model, vnni)


def test_processor_of_another_system(tmp_path):
    assert read_processor(tmp_path / "none").told == "unknown, VNNI unknown"
