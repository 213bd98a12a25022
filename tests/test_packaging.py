"""What the wheel holds."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that nothing is left in the checkout."""
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
        str(folder),
        "./source",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


def test_everything_is_inside_the_package(wheel):
    assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name} == {"salgan_edge"}


def test_the_parts_are_there(wheel):
    names = set(wheel.namelist())
    for name in (
        "py.typed",
        "export/write.py",
        "train/loop.py",
        "train/data/samples.py",
        "train/networks/edge.py",
        "benchmarks/__main__.py",
        "samples/coffee.jpg",
        "cli/predict.py",
        "bundles/default/bundle.json",
        "bundles/default/generator.onnx",
        "bundles/small/generator.onnx",
        "bundles/default/text_encoder.onnx",
        "bundles/default/tokenizer.json",
        "train/released/default.safetensors",
        "train/released/small.safetensors",
        "train/released/text_encoder/model.safetensors",
        "train/released/text_encoder/config.json",
        "train/released/text_encoder/tokenizer.json",
    ):
        assert f"salgan_edge/{name}" in names
    for name in ("LICENSE", "NOTICE"):
        assert any(path.endswith(f".dist-info/licenses/{name}") for path in names)


def test_every_module_of_the_checkout_is_in_the_wheel(wheel):
    names = set(wheel.namelist())
    for folder, package in (
        ("salgan_edge", ""), ("export", "export/"), ("train", "train/"), ("benchmarks", "benchmarks/"), ("samples", "samples/"),
    ):  # fmt: skip
        for file in (ROOT / folder).rglob("*.py"):
            assert f"salgan_edge/{package}{file.relative_to(ROOT / folder).as_posix()}" in names


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
    assert extras == {"cpu", "gpu", "openvino", "directml", "train", "export", "dev"}
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
