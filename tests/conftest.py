"""Tiny models and data, made here: the tests need neither ../shared nor a network."""

from __future__ import annotations

import csv
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent

# For tests that import onnxruntime themselves; the package does it where it imports it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@pytest.fixture(scope="session")
def wheel_file(tmp_path_factory):
    """The project as a wheel, built from a copy so that nothing is left in the checkout."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(
        ".*", "runs", "build", "dist", "*.egg-info", "__pycache__", "tests", "venv", "out", "bundle"
    )
    shutil.copytree(ROOT, folder / "source", ignore=ignored)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        folder,
        "./source",
    ]
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture
def photo_file(tmp_path):
    """A small JPEG with a smooth gradient."""
    from salgan_edge.images import write_image

    rows, columns = np.mgrid[0:60, 0:80]
    pixels = np.stack([rows * 4, columns * 3, rows + columns], axis=-1).astype(np.uint8)
    write_image(tmp_path / "photo.jpg", pixels)
    return tmp_path / "photo.jpg"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder: exit code, standard output, standard error."""
    from salgan_edge import cli

    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["salgan-edge", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return call


@pytest.fixture
def tool(monkeypatch, capsys):
    """Run ``python -m tools``: exit code, standard output, standard error."""
    from tools import __main__ as tools

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["tools", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            tools.main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return call


@pytest.fixture
def onnx():
    return pytest.importorskip("onnx")


@pytest.fixture
def save_graph(onnx, tmp_path):
    """Save a graph of one operator: y = op(inputs)."""

    def call(op, inputs, shape=None, name="net.onnx", weights=(), kind=1, **attributes):
        helper = onnx.helper
        values = [helper.make_tensor_value_info(key, *what) for key, what in inputs.items()]
        node = helper.make_node(op, [*inputs, *(w.name for w in weights)], ["y"], **attributes)
        output = helper.make_tensor_value_info("y", kind, shape)
        graph = helper.make_graph([node], "g", values, [output], list(weights))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    return call


@pytest.fixture
def fake_neck(onnx, tmp_path):
    """A detector with the tensors of YOLOX-Nano's neck: each halves the last, one output beyond them."""
    helper = onnx.helper

    def weight(name, outputs, inputs):
        values = np.full((outputs, inputs, 2, 2), 0.25, np.float32)
        return onnx.numpy_helper.from_array(values, name)

    names = ["images", "956", "990", "1024", "logits"]
    channels = [3, 4, 5, 6, 7]
    nodes = [
        helper.make_node("Conv", [a, f"w{b}"], [b], strides=[2, 2], kernel_shape=[2, 2])
        for a, b in itertools.pairwise(names)
    ]
    weights = [weight(f"w{names[n]}", channels[n], channels[n - 1]) for n in range(1, 5)]
    inputs = [helper.make_tensor_value_info("images", 1, [1, 3, 416, 416])]
    outputs = [helper.make_tensor_value_info("logits", 1, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "detector.onnx")
    return tmp_path / "detector.onnx"


@pytest.fixture(scope="session")
def predictor():
    """The embedded default bundle."""
    from salgan_edge import SaliencyPredictor

    return SaliencyPredictor.load(device="cpu")


@pytest.fixture(scope="session")
def tiny_text_encoder(tmp_path_factory):
    """A `transformers` folder: CLIP's vocabulary, 8 channels, random weights."""
    torch = pytest.importorskip("torch")
    from salgan_edge.train.networks.text_encoder import compact_text_encoder, save_text_encoder

    from salgan_edge.bundle import default_bundle

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("text_encoder")
    model = compact_text_encoder(width=8, layers=2, heads=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    save_text_encoder(model, folder)
    (folder / "tokenizer.json").write_bytes((default_bundle() / "tokenizer.json").read_bytes())
    return folder


def random_generator(size=64, dimension=512, fusion="inner+film"):
    """An `edge` generator whose every part shows in the output."""
    import torch
    from salgan_edge.train.networks.edge import EdgeGenerator

    torch.manual_seed(1)
    model = EdgeGenerator(size, dimension, fusion=fusion)
    mean = torch.zeros(dimension)
    mean[0] = 0.3
    model.set_text_mean(mean)
    with torch.no_grad():
        model.position.normal_(std=0.5)
        model.prior.normal_(std=0.5)
        if "film" in fusion:
            model.film[2].weight.normal_(std=0.1)
        model.head.weight.normal_(std=0.3)
    return model.eval()


def eyed_generator(*, eyes="lite0", fine_keys=True):
    """A generator whose every part shows in the output, the second backbone's too."""
    import torch
    from salgan_edge.train.networks.edge import EdgeGenerator

    source = random_generator()
    model = EdgeGenerator(64, eyes=eyes, fine_keys=fine_keys)
    model.load_state_dict(source.state_dict(), strict=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("eyes.") and name.endswith("weight"):
                torch.nn.init.kaiming_normal_(parameter)
            elif name.startswith(("eye_laterals", "eye_relevance", "fine_asked")):
                parameter.normal_(std=0.2)
            if name.startswith(("eyes.", "eye_query.")):
                # In half precision, as weights of the second backbone are.
                parameter.copy_(parameter.half())
    return model.eval()


def photo(batch=1):
    """Photos of noise (batch, 70, 90, 3)."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 70, 90, 3), dtype=torch.uint8, generator=generator)


def texts(batch=1, prompts=3):
    """Text vectors (batch, prompts, 512); the second of the first photo is no text."""
    import torch

    vectors = torch.randn(batch, prompts, 512, generator=torch.Generator().manual_seed(1))
    vectors[0, 1] = 0
    return torch.nn.functional.normalize(vectors, dim=-1)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """A generator checkpoint at 64 pixels with random weights."""
    pytest.importorskip("torch")
    from salgan_edge.train.checkpoint import Description, save_generator

    path = tmp_path_factory.mktemp("checkpoint") / "generator.safetensors"
    save_generator(random_generator(), Description("edge", {"size": 64}, training={"data": ["none"]}), path)
    return path


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory, tiny_checkpoint, tiny_text_encoder):
    """A bundle exported from the tiny models by the real exporter."""
    from salgan_edge.export.write import export_bundle

    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    export_bundle(folder, tiny_checkpoint, str(tiny_text_encoder), name="tiny")
    return folder


@pytest.fixture(scope="session")
def gaze_data(tmp_path_factory):
    """A data folder like the real ones: 14 photos of noise with a bright spot that is looked at."""
    from salgan_edge.gaze.detector import COCO_CLASSES, class_prompt
    from salgan_edge.images import write_image

    data = tmp_path_factory.mktemp("data")
    folder = data / "sjtu_tis"
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    rows, fixations, captions = [], {}, []
    for number in range(14):
        name = f"{number:04d}"
        pixels = random.integers(0, 90, (48, 64, 3)).astype(np.uint8)
        spots = {"pure": (32, 24), "general": (20, 24), "salient": (12, 12), "nonsalient": (52, 36)}
        for condition, (x, y) in spots.items():
            pixels[y - 4 : y + 4, x - 4 : x + 4] = 255
            text = "" if condition == "pure" else f"the {condition} thing on the left of photo {number}"
            captions += [text] if text else []
            rows.append([name, condition, text, 64, 48, 30])
            points = random.normal((x, y), 2.0, (30, 2)).clip(0, (63, 47))
            fixations[f"{name}_{condition}"] = points.astype(np.uint16)
        write_image(folder / "images" / f"{name}.jpg", pixels)
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "condition", "text", "width", "height", "fixations"])
        writer.writerows(rows)
    np.savez(folder / "fixations.npz", **fixations)
    text = data / "clip_text"
    text.mkdir()

    def vectors(count):
        table = random.normal(size=(count, 512)) + 1
        return (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float16)

    names = [class_prompt(name) for name in COCO_CLASSES] + [f"a thing{n}" for n in range(30)]
    np.savez(text / "real_vit_b32.npz", texts=np.array(names), vectors=vectors(len(names)))
    words = [f"word{n}" for n in range(20)] + ["dog", "cat", "lamp"]
    np.savez(
        text / "estimated.npz", words=np.array(words), word_vectors=vectors(len(words)),
        captions=np.array(captions), caption_vectors=vectors(len(captions)),
    )  # fmt: skip
    return data
