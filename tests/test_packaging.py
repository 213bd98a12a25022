"""What the wheel holds."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(wheel_file):
    return zipfile.ZipFile(wheel_file)


def test_everything_is_inside_the_package(wheel):
    assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name} == {"salgan_edge"}


def test_what_it_needs_is_there(wheel):
    """Every module of the checkout but tools, and the files that are no modules."""
    names = set(wheel.namelist())
    for top in ("salgan_edge", "export", "train", "benchmarks", "samples"):
        package = "" if top == "salgan_edge" else f"{top}/"
        for file in (ROOT / top).rglob("*.py"):
            assert f"salgan_edge/{package}{file.relative_to(ROOT / top).as_posix()}" in names
    for name in (
        "py.typed", "samples/coffee.jpg", "bundles/default/bundle.json", "bundles/default/generator.onnx",
        "bundles/small/generator.onnx", "bundles/default/text_encoder.onnx", "bundles/default/tokenizer.json",
        "train/released/default.safetensors", "train/released/small.safetensors",
        "train/released/text_encoder/model.safetensors", "train/released/text_encoder/config.json",
        "train/released/text_encoder/tokenizer.json",
    ):  # fmt: skip
        assert f"salgan_edge/{name}" in names
    for name in ("LICENSE", "NOTICE"):
        assert any(path.endswith(f".dist-info/licenses/{name}") for path in names)


def test_models_are_small(wheel):
    sizes = {info.filename: info.compress_size for info in wheel.infolist()}
    parts = ("train/released/", "bundles/default/", "bundles/small/")
    found = [sum(size for name, size in sizes.items() if f"/{part}" in name) for part in parts]
    assert all(size > 1e6 for size in found)
    assert sum(sizes.values()) <= 60e6


def test_console_script(wheel):
    (entry,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "salgan-edge = salgan_edge.cli:main" in wheel.read(entry).decode()


def test_extras(wheel):
    (entry,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = wheel.read(entry).decode()
    extras = {line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Provides-Extra")}
    assert extras == {"cpu", "gpu", "openvino", "directml", "train", "export", "docs", "dev"}
    required = [
        line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line
    ]
    assert sorted(line.split(": ")[1].split(">")[0] for line in required) == [
        "numpy",
        "opencv-python",
        "platformdirs",
        "psutil",
        "tokenizers",
        "typer",
    ]
