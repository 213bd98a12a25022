"""The public API as programs use it: kinds of images, batches, threads, process pools."""

from __future__ import annotations

import ast
import doctest
import importlib
import io
import multiprocessing
import os
import pickle
import pydoc
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import salgan_edge
from salgan_edge import SaliencyPredictor, samples
from salgan_edge.errors import BundleFormatError, ImageError, InputError, PromptError
from salgan_edge.images import load_image
from salgan_edge.metrics import cc

PHOTO = samples.path("coffee")


@pytest.fixture(scope="module")
def rgb():
    return samples.load("coffee")


# What an image may be


def as_path_like(_):
    class Place:
        def __fspath__(self):
            return str(PHOTO)

    return Place()


def as_torch(rgb):
    return pytest.importorskip("torch").from_numpy(rgb.copy())


class Interface:
    """Nothing but numpy's array interface."""

    def __init__(self, array):
        self.kept = array
        self.__array_interface__ = array.__array_interface__


SAME = {
    "text": lambda _: str(PHOTO),
    "path": lambda _: PHOTO,
    "path-like": as_path_like,
    "bytes": lambda _: PHOTO.read_bytes(),
    "bytearray": lambda _: bytearray(PHOTO.read_bytes()),
    "memoryview": lambda _: memoryview(PHOTO.read_bytes()),
    "file object": lambda _: io.BytesIO(PHOTO.read_bytes()),
    "array": lambda rgb: rgb,
    "not contiguous": lambda rgb: np.repeat(rgb, 2, axis=1)[:, ::2],
    "uint16": lambda rgb: rgb.astype(np.uint16) * 257,
    "float32": lambda rgb: rgb.astype(np.float32) / 255,
    "float64": lambda rgb: rgb / 255,
    "opaque RGBA": lambda rgb: np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]),
    "pillow": Image.fromarray,
    "array interface": Interface,
    "torch": as_torch,
    "torch float": lambda rgb: as_torch(rgb).float() / 255,
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_photo_in_every_form(rgb, kind):
    loaded = load_image(SAME[kind](rgb))
    assert loaded.dtype == np.uint8
    assert loaded.flags.c_contiguous
    assert np.array_equal(loaded, rgb)


def test_opencvs_order_of_colours(rgb):
    assert np.array_equal(load_image(rgb[..., ::-1], bgr=True), rgb)
    opaque = np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 255, np.uint8)])
    assert np.array_equal(load_image(opaque, bgr=True), rgb)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_grey_is_repeated(shape):
    grey = np.arange(35, dtype=np.uint8).reshape(shape)
    assert np.array_equal(load_image(grey), np.repeat(grey.reshape(5, 7, 1), 3, axis=2))


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "RGBA", "LA", "I;16"])
def test_pillow_modes(mode):
    rgb = np.kron(np.array([[0, 255], [60, 190]], np.uint8), np.ones((8, 8), np.uint8))[..., None].repeat(
        3, 2
    )
    image = Image.fromarray(rgb)
    image = Image.fromarray(rgb[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    expected = np.rint(np.asarray(image) / 257) if mode == "I;16" else np.asarray(image.convert("RGB"))
    expected = expected.reshape(16, 16, -1) * np.ones(3)
    assert np.abs(load_image(image).astype(int) - expected).max() <= 2


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_pillow_and_path_are_turned_alike(tmp_path, rgb, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"turned{suffix}"
    Image.fromarray(rgb).save(path, exif=exif, lossless=True)
    with Image.open(path) as image:
        turned = load_image(image)
    assert turned.shape == (600, 400, 3)
    assert np.array_equal(turned, load_image(path))


def test_what_is_transparent_shows_the_background():
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = (0, 128, 255)
    # Black of opacity 128 / 255 over white: 255 * 127 / 255.
    assert load_image(pixels)[0, :, 0].tolist() == [255, 127, 0]
    assert load_image(pixels, background=(10, 20, 30))[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 40, 50), np.uint8), r"channels go last"),
        (np.zeros((40, 50, 2), np.uint8), r"\(H, W\), \(H, W, 3\)"),
        (np.zeros((0, 50, 3), np.uint8), "no pixels"),
        (np.full((4, 4, 3), 200.0), "floats in 0..1"),
        (np.full((4, 4, 3), np.nan), "floats in 0..1"),
        (np.zeros((4, 4, 3), np.int64), "uint8, uint16 or floats"),
        ([np.zeros((4, 4, 3), np.uint8)], "predict_batch"),
        (b"", "is empty"),
        (b"hello", "not a readable image"),
        (io.StringIO("text"), "binary mode"),
        (3, "a int was given"),
        (None, "a NoneType was given"),
    ],
    ids=lambda value: getattr(value, "shape", None) and str(value.shape),
)
def test_what_is_no_image(image, message):
    with pytest.raises(ImageError, match=message):
        load_image(image)


# Batches


def test_a_batch_equals_single_predictions(predictor):
    images = [samples.path("coffee"), samples.load("chelsea"), samples.path("astronaut").read_bytes()]
    together = predictor.predict_batch(images, ["a cup", "an ear", None])
    for image, result in zip(images, together, strict=True):
        alone = predictor.predict(image, result.text)
        assert np.abs(alone.map - result.map).max() < 1e-4
        assert (
            alone.text_effect is None
            if result.text is None
            else alone.text_effect.moved == pytest.approx(result.text_effect.moved, abs=1e-4)
        )


def test_a_batch_through_the_graph_together(predictor, monkeypatch):
    """As on a GPU: images of one size and number of texts go through the graph at once."""
    images = [samples.load("coffee"), samples.load("chelsea"), samples.load("coffee")[:, ::-1]]
    texts = [["a cup", "a spoon"], ["an ear", "the nose"], ["a cup", "a spoon"]]
    one_by_one = predictor.predict_batch(images, texts)
    monkeypatch.setattr(type(predictor), "device", "cuda")
    together = predictor.predict_batch(images, texts)
    for one, other in zip(chain(*one_by_one), chain(*together), strict=True):
        assert one.text == other.text
        assert np.abs(one.map - other.map).max() < 1e-4


def test_one_text_for_all(predictor):
    results = predictor.predict_batch([PHOTO] * 3, "a spoon", workers=2)
    assert [result.text for result in results] == ["a spoon"] * 3
    assert np.array_equal(results[0].map, results[2].map)


def test_a_batch_of_nothing(predictor):
    assert predictor.predict_batch([]) == []


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a cup"], "there are 2 images and 1 texts"),
        (["a cup", ["a spoon"]], "give a list for each"),
        (["a cup", 3], "a int was given"),
        ([["a cup"], []], "is empty"),
        (3, "a int was given"),
    ],
)
def test_texts_that_do_not_fit_the_images(predictor, texts, message):
    with pytest.raises(PromptError, match=message):
        predictor.predict_batch([PHOTO, PHOTO], texts)


@pytest.mark.parametrize("images", [str(PHOTO), PHOTO, b"content"], ids=["text", "path", "bytes"])
def test_one_image_is_no_batch(predictor, images):
    with pytest.raises(ImageError, match="a list of images was expected"):
        predictor.predict_batch(images, "a cup")


def test_a_bad_image_in_a_batch_is_named(predictor):
    with pytest.raises(ImageError, match=r"images\[1\]: the image given as bytes is not a readable image"):
        predictor.predict_batch([PHOTO, b"hello"], "a cup")


# Texts


def test_one_text_is_one_row(predictor):
    assert predictor.embed("dog").shape == (1, 512)
    assert np.array_equal(predictor.embed("dog"), predictor.embed(["dog"]))
    assert predictor.bake("dog").texts == ("dog",)
    assert predictor.embed([]).shape == (0, 512)


def test_the_effect_of_a_text(predictor):
    free, spoon, giraffe = predictor.predict(PHOTO, [None, "a spoon", "a giraffe"])
    assert free.text_effect is None
    for result in (spoon, giraffe):
        p, q = (values / values.sum() for values in (result.map, free.map))
        # Of the maps here, of the generator's grid there: interpolation changes little.
        assert result.text_effect.moved == pytest.approx(np.abs(p - q).sum() / 2, abs=0.01)
        assert result.text_effect.correlation == pytest.approx(cc(result.map, free.map), abs=0.01)
    assert spoon.text_effect.moved > 2 * giraffe.text_effect.moved
    assert predictor.predict(PHOTO, "a spoon", text_effect=False).text_effect is None


# Threads and processes


def test_many_threads_and_a_small_cache(predictor):
    shared = SaliencyPredictor(predictor.bundle, prompt_cache=8)
    texts = [f"a thing number {number}" for number in range(20)]
    expected = dict(zip(texts, predictor.embed(texts), strict=True))
    wrong, start = [], threading.Barrier(16)

    def work(seed):
        random = np.random.default_rng(seed)
        start.wait()
        try:
            for _ in range(500):
                chosen = [texts[index] for index in random.integers(0, len(texts), 2)]
                vectors = shared.embed(chosen)
                for text, vector in zip(chosen, vectors, strict=True):
                    if np.abs(vector - expected[text]).max() > 1e-5:
                        wrong.append(text)
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def peak_of(predictor, text):
    return os.getpid(), predictor.predict(PHOTO, text).peak


INHERITED = None


def peak_of_inherited(text):
    return os.getpid(), INHERITED.predict(PHOTO, text).peak


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_pool_takes_it_as_it_is(predictor, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    expected = predictor.predict(PHOTO, "a spoon").peak
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        answers = list(pool.map(peak_of, [predictor] * 2, ["a spoon"] * 2, timeout=120))
    assert {peak for _, peak in answers} == {expected}
    assert os.getpid() not in {process for process, _ in answers}


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_may_use_what_it_inherits():
    """Threads of the parent's graphs are not in the child: it has to load its own."""
    global INHERITED  # noqa: PLW0603 - what a forked child inherits
    INHERITED = SaliencyPredictor.load(device="cpu", threads=2)
    expected = INHERITED.predict(PHOTO, "a spoon").peak
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        assert pool.submit(peak_of_inherited, "a spoon").result(timeout=120)[1] == expected
    INHERITED.close()


def test_a_copy_keeps_what_was_asked(predictor):
    pack = predictor.bake(["a dog"])
    first = SaliencyPredictor.load("small", device="cpu", threads=1, prompts=pack, prompt_cache=3)
    content = pickle.dumps(first)
    assert len(content) < 10_000  # the bundle's place, not its content
    copy = pickle.loads(content)
    assert repr(copy) == repr(first)
    assert copy.prompts.texts == ("a dog",)
    assert not copy.prompts.vectors.flags.writeable
    assert np.array_equal(copy.predict(PHOTO, "a dog").map, first.predict(PHOTO, "a dog").map)


def test_a_copy_refuses_another_bundle_in_the_place(tmp_path, tiny_bundle):
    import shutil

    from salgan_edge.bundle import default_bundle

    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    content = pickle.dumps(SaliencyPredictor.load(tmp_path / "bundle", device="cpu"))
    shutil.rmtree(tmp_path / "bundle")
    shutil.copytree(default_bundle(), tmp_path / "bundle")
    with pytest.raises(BundleFormatError, match="was expected: load the predictor anew"):
        pickle.loads(content)


def test_closed_is_closed():
    with SaliencyPredictor.load(device="cpu") as predictor:
        assert predictor.predict(PHOTO, "a spoon").map.any()
    predictor.close()
    assert "closed" in repr(predictor)
    for use in (lambda: predictor.predict(PHOTO), lambda: predictor.embed("a dog"), lambda: predictor.device):
        with pytest.raises(InputError, match="closed: load it again"):
            use()


# The package


def test_public_names_are_visible():
    """To `dir`, `help`, and type checkers, which read the source without running it."""
    assert set(salgan_edge.__all__) <= set(dir(salgan_edge))
    text = pydoc.plain(pydoc.render_doc(salgan_edge))
    tree = ast.parse(Path(salgan_edge.__file__).read_text())
    typed = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for name in salgan_edge.__all__:
        assert getattr(salgan_edge, name) is not None
        assert name.strip("_") in text.lower() or name in text
        assert name in typed, f"{name} is hidden from type checkers"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        salgan_edge.nonsense  # noqa: B018


def test_examples_of_the_public_names_run():
    ran = 0
    for name in salgan_edge.__all__:
        value = getattr(salgan_edge, name)
        module = importlib.import_module(
            getattr(value, "__module__", value.__name__ if hasattr(value, "__name__") else "salgan_edge")
        )
        for test in doctest.DocTestFinder(recurse=True).find(value, name, module=module, globs={}):
            if test.examples:
                result = doctest.DocTestRunner(verbose=False).run(test)
                assert result.failed == 0, test.name
                ran += 1
    assert ran >= 10


def test_importing_changes_nothing_of_the_host():
    """Neither its environment, umask, log levels, warnings, signals nor standard error; nothing heavy is loaded."""
    script = """
import logging, os, signal, sys, warnings
def state():
    mask = os.umask(0); os.umask(mask)
    return (dict(os.environ), mask, logging.root.level, list(logging.root.handlers), list(warnings.filters),
            signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), os.fstat(2).st_ino, sys.excepthook)
before = state()
import salgan_edge
assert state() == before
heavy = {"numpy", "cv2", "onnxruntime", "torch", "typer"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "salgan_edge", "predict", str(PHOTO), "a spoon"],
        ["-m", "salgan_edge", "doctor", "--no-cameras", "--device", "cpu"],
        [
            "-c",
            f"from salgan_edge import SaliencyPredictor; SaliencyPredictor.load().predict({str(PHOTO)!r}, 'a cup')",
        ],
    ],
    ids=["predict", "doctor", "api"],
)
@pytest.mark.parametrize("writable", [True, False])
def test_nothing_is_written_into_the_home_folder(tmp_path, command, writable):
    """onnxruntime's telemetry would leave an identifier there, and send events."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    place = home if writable else Path("/proc/nowhere")
    ours = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "HOME")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    # Where this package is, whichever folder the process runs in; coverage and bytecode stay out of the way.
    environment |= {"HOME": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=work,
        env=environment,
        timeout=300,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []
