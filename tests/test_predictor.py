"""The embedded bundle on the sample photos, and the Python API."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from salgan_edge import PromptWarning, SaliencyPredictor, samples
from salgan_edge.errors import DeviceError, PromptError
from salgan_edge.metrics import cc
from salgan_edge.session import DeviceWarning


def share(result, left, top, right, bottom):
    """Share of the map's mass in a box given in pixels."""
    return float(result.map[top:bottom, left:right].sum() / result.map.sum())


@pytest.mark.parametrize("name", samples.NAMES)
def test_map_is_at_the_photos_size(predictor, name):
    result = predictor.predict(str(samples.path(name)), "an object")
    assert result.map.shape == samples.load(name).shape[:2]
    assert result.map.dtype == np.float32
    assert result.map.min() >= 0
    assert result.map.max() <= 1
    assert result.map.max() > 0.9


def test_prompts_change_the_map(predictor):
    photo = samples.load("astronaut")
    woman, face, helmet = predictor.predict(photo, ["a woman", "a woman's face", "a helmet"])
    # The helmet, which is none of the detector's classes, lies in the lower right corner of the photo,
    # the woman's body in its left half.
    assert share(helmet, 280, 330, 512, 512) > 2 * share(face, 280, 330, 512, 512)
    assert share(woman, 20, 200, 280, 512) > 1.2 * share(helmet, 20, 200, 280, 512)
    assert cc(woman.map, helmet.map) < 0.85


def test_prompts_move_the_gaze_on_the_photo_of_the_readme(predictor):
    spoon, cup = predictor.predict(samples.path("coffee"), ["a spoon", "a cup of coffee"])
    assert share(spoon, 310, 230, 410, 320) > 2 * share(cup, 310, 230, 410, 320)
    assert share(cup, 170, 60, 400, 240) > 1.1 * share(spoon, 170, 60, 400, 240)
    # The peaks are on the bowl of the spoon and inside the cup.
    assert 310 <= spoon.peak[0] < 410
    assert 230 <= spoon.peak[1] < 320
    assert 170 <= cup.peak[0] < 400
    assert 60 <= cup.peak[1] < 240


def test_free_viewing_is_not_a_prompt(predictor):
    free, cup = predictor.predict(samples.path("coffee"), [None, "a cup of coffee"])
    assert free.text is None
    assert cc(free.map, cup.map) < 0.95


def test_one_pass_equals_single_calls(predictor):
    photo = samples.load("chelsea")
    texts = ["a cat", None, "the nose"]
    for text, together in zip(texts, predictor.predict(photo, texts), strict=True):
        alone = predictor.predict(photo, text)
        assert alone.text == text
        assert np.abs(alone.map - together.map).max() < 1e-4


def test_paths_and_arrays_are_alike(predictor):
    path = samples.path("coffee")
    maps = [predictor.predict(image, "a spoon").map for image in (path, str(path), samples.load("coffee"))]
    assert np.array_equal(maps[0], maps[1])
    assert np.array_equal(maps[0], maps[2])


def test_mirrored_photo_gives_a_mirrored_map(predictor):
    photo = samples.load("astronaut")
    there = predictor.predict(photo, "a helmet").map
    back = predictor.predict(np.ascontiguousarray(photo[:, ::-1]), "a helmet").map[:, ::-1]
    assert cc(there, back) > 0.85


def test_large_photo_is_shrunk_without_harm(predictor):
    photo = samples.load("astronaut")
    large = np.repeat(np.repeat(photo, 3, axis=0), 3, axis=1)
    small = predictor.predict(photo, "a helmet")
    result = predictor.predict(large, "a helmet")
    assert result.map.shape == (1536, 1536)
    assert cc(result.map[1::3, 1::3], small.map) > 0.99


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 700, 3), (900, 2, 3), (31, 33, 3)])
def test_odd_sizes(predictor, shape):
    result = predictor.predict(np.full(shape, 128, np.uint8), "a dog")
    assert result.map.shape == shape[:2]
    assert np.isfinite(result.map).all()
    assert result.peaks()


def test_vectors_are_cached_and_the_cache_is_bounded(monkeypatch):
    predictor = SaliencyPredictor.load(device="cpu")
    first = predictor.embed(["a dog"])
    encoded = []
    original = predictor._encode

    def spy(texts):
        encoded.extend(texts)
        return original(texts)

    monkeypatch.setattr(predictor, "_encode", spy)
    assert np.array_equal(predictor.embed(["a dog"]), first)
    assert encoded == []
    predictor.embed([f"thing {n}" for n in range(300)])
    assert len(predictor._vectors) <= 256
    predictor.embed(["a dog"])
    assert encoded[-1] == "a dog"


def test_vectors(predictor):
    vectors = predictor.embed(["a dog", None, "a dog", "a cat"])
    assert vectors.shape == (4, 512)
    assert np.allclose(np.linalg.norm(vectors[[0, 2, 3]], axis=1), 1, atol=1e-5)
    assert not vectors[1].any()
    assert np.array_equal(vectors[0], vectors[2])


def test_related_words_are_closer_than_unrelated_ones(predictor):
    dog, puppy, lamp = predictor.embed(["a dog", "a puppy", "a lamp"])
    assert dog @ puppy > dog @ lamp


def test_long_text_is_cut_aloud(predictor):
    text = " ".join(["lamp"] * 499 + ["zebra"])
    with pytest.warns(
        PromptWarning, match=r'more than 77 tokens and was cut: "lamp .*\.\.\. zebra" \(425 of 500'
    ):
        cut = predictor.embed([text])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(cut, predictor.embed([" ".join(["lamp"] * 75)]))


@pytest.mark.parametrize("text", ["🦒", "日本語", "؟", "!!!", "naïve café"])
def test_any_script(predictor, text):
    assert np.isfinite(predictor.predict(samples.path("coffee"), text).map).all()


@pytest.mark.parametrize("text", [5, [5], ["a dog", b"cat"], {"a"}])
def test_text_that_is_no_text(predictor, text):
    with pytest.raises(PromptError, match="was given as text"):
        predictor.predict(samples.path("coffee"), text)


def test_empty_texts(predictor):
    with pytest.raises(PromptError, match="text is empty"):
        predictor.predict(samples.path("coffee"), "  ")
    with pytest.raises(PromptError, match="list of texts is empty"):
        predictor.predict(samples.path("coffee"), [])


def test_stages_are_timed(predictor):
    result = predictor.predict(samples.path("coffee"), "a spoon")
    assert set(result.milliseconds) == {"decode", "text", "generator", "resize"}
    assert all(value >= 0 for value in result.milliseconds.values())
    assert result.milliseconds["generator"] > 0.1


def test_device_is_told(predictor):
    assert predictor.device == "cpu"


def test_cuda_asked_for_by_name_is_no_silent_fallback():
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA; the GPU tests cover it")
    with pytest.raises(DeviceError, match="has no CUDA"):
        SaliencyPredictor.load(device="cuda")


def test_unknown_device():
    with pytest.raises(DeviceError, match="'tpu' is unknown"):
        SaliencyPredictor.load(device="tpu")


@pytest.fixture
def cuda_only_listed(monkeypatch):
    """What onnxruntime-gpu does without a GPU: CUDA is listed, sessions come back on the CPU."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA; the GPU tests cover it")
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)


@pytest.mark.usefixtures("cuda_only_listed")
def test_auto_falls_back_aloud():
    with pytest.warns(DeviceWarning, match="not usable, so this runs on the CPU"):
        predictor = SaliencyPredictor.load(device="auto")
    assert predictor.device == "cpu"


@pytest.mark.usefixtures("cuda_only_listed")
def test_cuda_by_name_never_falls_back():
    with pytest.raises(
        DeviceError, match="cuda is not usable: onnxruntime takes CPUExecutionProvider in its place"
    ):
        SaliencyPredictor.load(device="cuda")
