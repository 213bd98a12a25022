"""Peers of the benchmarks: that they compute what they are said to, and say so where they cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from salgan_edge.benchmarks.peers import PEERS, PeerUnavailableError, networks, peer
from salgan_edge.benchmarks.peers.networks import find_neck
from salgan_edge.benchmarks.peers.peer import GENERATOR, OWN, matmul_graph, matmul_peer
from salgan_edge.benchmarks.peers.rows import peer_rows, peer_subjects
from salgan_edge.benchmarks.peers.user_graph import UserGraph, guess_shape, random_input
from salgan_edge.benchmarks.report import peers_text
from salgan_edge.benchmarks.settings import Effort

from salgan_edge.errors import InputError
from salgan_edge.evaluate.models import SpectralResidual
from salgan_edge.session import GraphSession
from salgan_edge.timing import random_photo, random_texts

FAST = Effort(min_runs=1, min_seconds=0.01, min_blocks=2, max_seconds=1.0)
FLOAT, INT64, STRING = 1, 7, 8


def one(name, files=(), **options):
    (peer,) = peer_subjects([name] if name else [], files, 64, 1, **options)
    return peer


# The ceiling


def test_the_product_is_the_product():
    peer = matmul_peer(1, (96,))
    random = np.random.default_rng(0)
    a, b = (random.random((96, 96), np.float32) for _ in range(2))
    np.testing.assert_allclose(peer.run(), a @ b, rtol=1e-5)
    assert peer.macs == 96**3


def test_the_size_that_does_most_is_taken(monkeypatch):
    # 64 does 8 times as much as 32 in 4 times the time, 128 does 8 times as much again in 10 times.
    seconds, now = {32: 1.0, 64: 4.0, 128: 40.0}, [0.0]
    real = GraphSession.run

    def run(self, output, inputs):
        now[0] += seconds[len(inputs["a"])]
        return real(self, output, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(GraphSession, "run", run)
        patch.setattr(time, "perf_counter", lambda: now[0])
        peer = matmul_peer(1, (32, 64, 128))
    assert peer.run().shape == (64, 64)
    assert "64x64" in peer.note


def test_the_graph_that_is_written_out_is_sound(onnx):
    model = onnx.load_from_string(matmul_graph(300))
    onnx.checker.check_model(model, full_check=True)
    assert [axis.dim_value for axis in model.graph.output[0].type.tensor_type.shape.dim] == [300, 300]


def test_threads_reach_the_session(monkeypatch):
    seen = []
    real = GraphSession.__init__

    def spy(self, graph, execution, **options):
        seen.append(execution)
        real(self, graph, execution, **options)

    monkeypatch.setattr(GraphSession, "__init__", spy)
    matmul_peer(2, (8,))
    assert [(how.device, how.threads) for how in seen] == [("cpu", 2)]


# OpenCV


def without_saliency(monkeypatch):
    import cv2

    monkeypatch.delattr(cv2, "saliency", raising=False)


def test_own_spectral_residual_is_that_of_evaluate(monkeypatch):
    without_saliency(monkeypatch)
    peer = one("spectral-residual")
    np.testing.assert_array_equal(peer.run(), SpectralResidual().residual(random_photo(64)))
    assert "this package's own" in peer.note
    assert "opencv-contrib-python" in peer.note


def test_missing_module_is_told_and_does_not_stop_the_others(monkeypatch):
    without_saliency(monkeypatch)
    told = []
    peers = peer_subjects(["fine-grained", "spectral-residual"], [], 64, 1, tell=told.append)
    assert [peer.name for peer in peers] == ["spectral-residual"]
    (line,) = told
    assert line.startswith("left out, fine-grained: ")
    assert "pip uninstall -y opencv-python && pip install opencv-contrib-python" in line
    with pytest.raises(PeerUnavailableError, match=r"fine-grained: .*no saliency module"):
        peer_subjects(["fine-grained"], [], 64, 1)


def test_opencv_models_get_its_own_order_of_colours_and_threads(monkeypatch):
    import cv2

    class Model:
        def computeSaliency(self, photo):  # noqa: N802 - OpenCV's name
            return True, photo[..., 0].astype(np.float32)

    class Saliency:
        StaticSaliencyFineGrained_create = staticmethod(Model)
        StaticSaliencySpectralResidual_create = staticmethod(Model)

    monkeypatch.setattr(cv2, "saliency", Saliency, raising=False)
    before = cv2.getNumThreads()
    try:
        for name in ("fine-grained", "spectral-residual"):
            cv2.setNumThreads(2)
            peer = one(name)
            np.testing.assert_array_equal(peer.run(), random_photo(64)[..., 2])
            assert cv2.getNumThreads() == 1
            assert peer.note.startswith("OpenCV ")
    finally:
        cv2.setNumThreads(before)


# Networks


def test_neck_is_cut_behind_its_outputs(fake_neck):
    peer = one("neck", neck=fake_neck)
    result = peer.run()
    assert result.shape == (1, 6, 8, 8)
    # Means over 2x2 pixels and sums over channels, three times.
    pixels = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    means = pixels[0].sum(0).reshape(8, 8, 8, 8).mean((1, 3))
    np.testing.assert_allclose(result[0, 0], means * 4 * 5, rtol=1e-4, atol=1e-4)
    # Positions times outputs times inputs times the kernel, of three layers and not of the fourth.
    assert peer.macs == 32**2 * 4 * 3 * 4 + 16**2 * 5 * 4 * 4 + 8**2 * 6 * 5 * 4


def test_neck_of_another_network_is_refused(save_graph, tmp_path):
    other = save_graph("Relu", {"x": (FLOAT, [1, 3, 8, 8])})
    text = tmp_path / "text.onnx"
    text.write_text("no graph")
    for file, message in (
        (other, r"has no tensor 956: give yolox_nano_coco\.onnx"),
        (text, "cannot be read as ONNX"),
        (tmp_path / "none.onnx", "there is no file"),
    ):
        with pytest.raises(InputError, match=message):
            one("neck", neck=file)


def test_neck_that_is_nowhere_is_left_out(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(networks, "__file__", str(tmp_path / "a" / "b" / "c" / "networks.py"))
    assert find_neck() is None
    with pytest.raises(PeerUnavailableError, match="give it with --neck of python -m"):
        one("neck")


@pytest.mark.shared
def test_the_real_neck():
    if find_neck() is None:
        pytest.skip("needs ../shared/weights/yolox_nano_coco.onnx")
    pytest.importorskip("onnx")
    (peer,) = peer_subjects(["neck"], [], 256, 1)
    assert peer.run().shape == (1, 256, 8, 8)
    assert 0.15e9 < peer.macs < 0.17e9


def test_paper_is_the_paper_s_network():
    torch = pytest.importorskip("torch")
    from salgan_edge.train.networks.paper import PaperGenerator

    peer = one("paper")
    torch.manual_seed(0)
    network = PaperGenerator().eval()
    with torch.no_grad():
        wanted = network(
            torch.from_numpy(random_photo(256)[None]), torch.from_numpy(random_texts(1, 512)[None])
        )
    np.testing.assert_allclose(peer.run(), wanted.numpy(), atol=1e-4)
    assert 22.5e9 < peer.macs < 23.5e9  # the paper's weights: 23.1 G


def test_missing_extra_is_named(tmp_path, fake_neck):
    code = (
        "import pathlib, sys\n"
        "for package in ('torch', 'onnx', 'transformers'): sys.modules[package] = None\n"
        "from salgan_edge.benchmarks.peers.rows import peer_subjects\n"
        "for name in ('paper', 'neck', 'clipseg'):\n"
        "    try: peer_subjects([name], [], 64, 1, neck=pathlib.Path(sys.argv[1]))\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, fake_neck], capture_output=True, text=True, check=True,
        env={**os.environ, "SALGAN_EDGE_CACHE": str(tmp_path)},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"PeerUnavailableError {name}" for name in ("paper", "neck", "clipseg")
    ]
    assert all("is not installed: pip install 'salgan-edge[export]'" in line for line in lines)


# CLIPSeg


@pytest.fixture(scope="module")
def tiny_clipseg(tmp_path_factory):
    """A `transformers` folder of a CLIPSeg of few channels, for 64 pixels."""
    torch = pytest.importorskip("torch")
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    torch.manual_seed(0)
    side = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 4}
    config = CLIPSegConfig(
        vision_config={**side, "patch_size": 16, "image_size": 32}, text_config=side, projection_dim=8, reduce_dim=8,
        extract_layers=[0, 1, 2], decoder_num_attention_heads=2, decoder_intermediate_size=16,
        use_complex_transposed_convolution=True,
    )  # fmt: skip
    model = CLIPSegForImageSegmentation(config).eval()
    folder = tmp_path_factory.mktemp("clipseg")
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"size": {"height": 64, "width": 64}}')
    return folder, model


def test_clipseg_is_the_network_of_the_folder_and_exported_once(tiny_clipseg, monkeypatch, tmp_path):
    import torch

    folder, model = tiny_clipseg
    monkeypatch.setenv("SALGAN_EDGE_CACHE", str(tmp_path))
    peer = one("clipseg", clipseg_folder=folder)
    pixels = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        wanted = model(
            pixel_values=torch.from_numpy(pixels), conditional_embeddings=torch.from_numpy(random_texts(1, 8))
        ).logits
    assert wanted.shape[-2:] == (64, 64)
    assert wanted.std() > 1e-4
    np.testing.assert_allclose(peer.run().squeeze(), wanted.numpy().squeeze(), rtol=1e-3, atol=1e-5)
    assert folder.name in peer.note
    assert peer.macs > 0
    assert sorted(file.suffix for file in (tmp_path / "peers").iterdir()) == [".json", ".onnx"]
    monkeypatch.setattr(networks, "clipseg_graph", None)
    again = one("clipseg", clipseg_folder=folder)
    np.testing.assert_array_equal(peer.run(), again.run())
    assert (again.macs, again.note) == (peer.macs, peer.note)


def test_cache_that_cannot_be_written(tiny_clipseg, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SALGAN_EDGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(PeerUnavailableError, match="set SALGAN_EDGE_CACHE to a folder that can be written"):
        one("clipseg", clipseg_folder=tiny_clipseg[0])


def test_other_folders_are_refused(tiny_text_encoder, monkeypatch, tmp_path):
    monkeypatch.setenv("SALGAN_EDGE_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"has no config.json"):
        one("clipseg", clipseg_folder=tmp_path)
    with pytest.raises(InputError, match="clipseg was expected"):
        one("clipseg", clipseg_folder=tiny_text_encoder)


@pytest.mark.slow
def test_clipseg_at_its_full_size(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    monkeypatch.setenv("SALGAN_EDGE_CACHE", str(tmp_path))
    peer = one("clipseg")
    assert peer.run().squeeze().shape == (352, 352)
    assert "random weights, so latency only" in peer.note
    # Ten layers of ViT-B/16 on 485 tokens, 7.1 M weights each and the products of the attention.
    layers = 10 * (485 * 12 * 768**2 + 2 * 485**2 * 768)
    assert layers < peer.macs < 1.1 * layers


# Files of the user's own


def test_shapes_that_vary_are_filled_in(save_graph):
    file = save_graph("Relu", {"x": (FLOAT, ["batch", 3, "height", "width"])})
    peer = one(None, [f"mine={file}"])
    x = random_input("tensor(float)", (1, 3, 64, 64))
    np.testing.assert_array_equal(peer.run(), np.maximum(x, 0))
    assert peer.name == "mine"
    assert peer.note == "net.onnx, random x 1x3x64x64"


def test_shapes_can_be_given(save_graph, onnx):
    weight = onnx.numpy_helper.from_array(np.ones((10, 7), np.float32), "w")
    file = save_graph("MatMul", {"a": (FLOAT, ["rows", "length"])}, ["rows", 7], weights=[weight])
    peer = one(None, [f"mine={file}:a=5x10"])
    sums = random_input("tensor(float)", (5, 10)).sum(1)
    np.testing.assert_allclose(peer.run(), np.repeat(sums[:, None], 7, 1), rtol=1e-4, atol=1e-5)
    assert peer.macs == 5 * 10 * 7
    with pytest.raises(
        InputError, match=r"does not run with a 64x1: .*give shapes that fit, such as mine=.*:a=1x3"
    ):
        one(None, [f"mine={file}"])


def test_several_inputs_of_several_types(save_graph):
    file = save_graph("Gather", {"table": (FLOAT, ["n", 4]), "ids": (INT64, ["m", "k"])}, None)
    peer = one(None, [f"mine={file}:table=2x4,ids=1x77"])
    assert peer.run().shape == (1, 77, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net.onnx", "name=file.onnx or name="),
        ("=net.onnx", "name=file.onnx or name="),
        ("a=none.onnx", "there is no file none.onnx"),
        ("a={file}:x=1xtwo", "there is no file|was expected"),
        ("a={file}:z=1x3", "has no input z: x were expected"),
        ("a={file}:x=1x4x8x8", "the shape 1x4x8x8 does not fit the input x, which is batchx3x8x8"),
        ("a={file}:x=3x8x8", "the shape 3x8x8 does not fit"),
        ("a={damaged}", "cannot load damaged.onnx.*; a file that onnxruntime reads was expected"),
        ("a={words}", "the input x is a tensor.string.; only tensors of numbers"),
    ],
)
def test_what_cannot_be_run_is_refused(text, message, save_graph, tmp_path):
    file = save_graph("Relu", {"x": (FLOAT, ["batch", 3, 8, 8])})
    words = save_graph("Identity", {"x": (STRING, [1])}, [1], name="words.onnx", kind=STRING)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InputError, match=message) as caught:
        peer_subjects([], [text.format(file=file, damaged=damaged, words=words)], 64, 1)
    assert "\n" not in str(caught.value)


def test_names_are_checked(save_graph):
    file = save_graph("Relu", {"x": (FLOAT, [2])})
    with pytest.raises(InputError, match=f"'papre' is unknown: {', '.join(PEERS)} were expected"):
        peer_subjects(["papre"], [], 64, 1)
    with pytest.raises(InputError, match="two rows would be named 'a'"):
        peer_subjects([], [f"a={file}", f"a={file}"], 64, 1)
    for name in ("matmul", "generator"):
        with pytest.raises(InputError, match=f"named '{name}'"):
            peer_subjects(["matmul"], [f"{name}={file}"], 64, 1)


@pytest.mark.parametrize(
    ("text", "name", "file", "shapes"),
    [
        ("a=C:\\n\\net.onnx:x=1x2", "a", "C:\\n\\net.onnx", {"x": (1, 2)}),
        ("a=dir/net.v2.onnx", "a", "dir/net.v2.onnx", {}),
        ("a=net.onnx:input:0=4,b=2x3", "a", "net.onnx", {"input:0": (4,), "b": (2, 3)}),
    ],
)
def test_how_files_are_written(text, name, file, shapes, monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    assert UserGraph.parse(text) == UserGraph(name, Path(file), shapes)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        (("batch", 3, "height", "width"), (1, 3, 256, 256)),
        (("N", "H", "W", 3), (1, 256, 256, 3)),
        ((None, None, None, None), (1, 3, 256, 256)),
        (("b", "c", "h", "w"), (1, 3, 256, 256)),
        (("b", 3, 224, 224), (1, 3, 224, 224)),
        (("b", "sequence"), (1, 1)),
        (("height", "width", 3), (256, 256, 3)),
        ((), ()),
    ],
)
def test_guessed_shapes(axes, shape):
    assert guess_shape(axes, 256) == shape


# Rows


def test_rows_hold_ratios_and_rates(tiny_bundle, fake_neck, save_graph, monkeypatch):
    monkeypatch.setattr(peer, "SIDES", (64,))
    file = save_graph("Relu", {"x": (FLOAT, [2])})
    shares = []
    rows = peer_rows(
        tiny_bundle, ["neck", "matmul"], [f"mine={file}"], (1, 2), neck=fake_neck, effort=FAST,
        progress=shares.append,
    )  # fmt: skip
    names = [*OWN, "neck", "matmul", "mine"]
    assert [(row.name, row.parameters["threads"]) for row in rows] == [(n, t) for t in (1, 2) for n in names]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    own, text, neck, ceiling, mine = rows[:5]
    assert list(own.ratios) == list(text.ratios) == ["neck", "matmul", "mine"]
    assert list(neck.ratios) == [GENERATOR]
    rounds = zip(own.stats.blocks, neck.stats.blocks, strict=True)
    each = [np.median(one) / np.median(other) for one, other in rounds]
    assert min(each) <= own.ratios["neck"].ratio <= max(each)
    assert own.ratios["neck"].ratio == pytest.approx(1 / neck.ratios[GENERATOR].ratio)
    rate = 2 * neck.values["giga_macs"] / (neck.stats.median_ms / 1000)
    assert neck.values["gflop_per_second"] == pytest.approx(rate)
    share = 100 * rate / ceiling.values["gflop_per_second"]
    assert neck.values["ceiling_percent"] == pytest.approx(share)
    assert ceiling.values["ceiling_percent"] == pytest.approx(100)
    assert mine.values["ceiling_percent"] is None  # nothing is multiplied
    shown = peers_text(rows)
    assert shown.count("generator / neck: ") == 2
    assert f"mine: {rows[-1].note}" in shown


def test_generator_has_fixed_inputs_as_large_as_its_own(tiny_bundle, monkeypatch):
    sizes = []
    real = GraphSession.run

    def spy(self, output, inputs):
        sizes.extend(array.shape for array in inputs.values() if array.dtype == np.uint8)
        return real(self, output, inputs)

    monkeypatch.setattr(GraphSession, "run", spy)
    rows = peer_rows(tiny_bundle, ["spectral-residual"], [], (1,), effort=FAST)
    assert set(sizes) == {(1, 64, 64, 3)}
    assert {row.values["ceiling_percent"] for row in rows} == {None}  # without the matrix product


def test_random_inputs_stay_the_same():
    assert random_input("tensor(uint8)", (100,)).max() > 200
    assert set(random_input("tensor(int64)", (100,))) == {0, 1}
    np.testing.assert_array_equal(random_photo(8), random_photo(8))
    np.testing.assert_allclose(np.linalg.norm(random_texts(3, 16), axis=1), 1, rtol=1e-6)


# The command


def test_peers_command(tool, tiny_bundle, fake_neck, tmp_path, save_graph, monkeypatch):
    from salgan_edge.benchmarks import settings
    from salgan_edge.benchmarks.record import load

    monkeypatch.setattr(settings, "QUICK", FAST)
    file = save_graph("Relu", {"x": (FLOAT, [2])})
    output = tmp_path / "out" / "peers.json"
    code, out, err = tool(
        "peers", "--bundle", tiny_bundle, "--peers", "neck,fine-grained", "--peer", f"mine={file}", "--neck", fake_neck,
        "--threads", "1", "--quick", "-o", output,
    )  # fmt: skip
    assert code == 0, err
    assert "generator / neck" in out
    record = load(output)
    assert {row.group for row in record.rows} == {"peer"}
    assert {"neck", "mine"} <= {row.name for row in record.rows}
    assert record.settings["peers"] == ["neck", "fine-grained", "mine"]
    assert len(record.bundles) == 1
    assert str(tmp_path) not in json.dumps(record.to_dict())


def test_errors_of_the_command_are_one_line(tool, tmp_path):
    def fails(code, message, *arguments):
        found, out, err = tool("peers", "--peers", *arguments)
        assert (found, out) == (code, "")
        assert message in err
        assert code == 2 or (err.startswith("error: ") and err.count("\n") == 1)

    fails(1, "--peer a=", "none", "--peer", f"a={tmp_path / 'none.onnx'}")
    fails(2, "'papre' is unknown", "papre")
    fails(2, "nothing to compare with", "none")
    fails(1, "is a folder: give the name of a file", "matmul", "-o", tmp_path)
    fails(2, "numbers from 1 to 1024", "matmul", "--threads", "0")
