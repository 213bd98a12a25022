"""What is loaded when: the runtime never needs PyTorch, and help needs next to nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

RUNTIME = (
    "salgan_edge", "salgan_edge.archive", "salgan_edge.binding", "salgan_edge.bundle", "salgan_edge.contract", "salgan_edge.devices", "salgan_edge.errors", "salgan_edge.files",
    "salgan_edge.images", "salgan_edge.metrics", "salgan_edge.place", "salgan_edge.predictor", "salgan_edge.prompts",
    "salgan_edge.render", "salgan_edge.stored_zip", "salgan_edge.cli.bake", "salgan_edge.cli.bundle",
    "salgan_edge.verification.checks", "salgan_edge.verification.contents", "salgan_edge.verification.contract_checks", "salgan_edge.verification.golden",
    "salgan_edge.verification.golden_checks", "salgan_edge.verification.graph_header", "salgan_edge.verification.inspection",
    "salgan_edge.verification.tolerance", "salgan_edge.verification.verify", "salgan_edge.cli.inspect", "salgan_edge.cli.verify",
    "salgan_edge.result", "salgan_edge.session", "salgan_edge.tokenizer", "salgan_edge.cli", "salgan_edge.samples",
    "salgan_edge.cli.arguments", "salgan_edge.cli.predict", "salgan_edge.cli.evaluate", "salgan_edge.cli.export",
    "salgan_edge.cli.train", "salgan_edge.cli.distill", "salgan_edge.train.evaluation.measure",
)  # fmt: skip


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_runtime_modules_load_no_torch():
    modules = loaded_after(
        "import importlib\n" + "\n".join(f"importlib.import_module({m!r})" for m in RUNTIME)
    )
    assert "salgan_edge" in modules
    assert not {"torch", "transformers", "onnx"} & modules


def test_every_runtime_module_is_checked():
    from pathlib import Path

    import salgan_edge

    folder = Path(salgan_edge.__file__).parent
    present = {f"salgan_edge.{p.stem}" for p in folder.glob("*.py") if not p.stem.startswith("_")}
    assert present <= set(RUNTIME)


def test_prediction_loads_no_torch():
    modules = loaded_after(
        "import salgan_edge, numpy\n"
        "salgan_edge.SaliencyPredictor.load().predict(numpy.zeros((40, 40, 3), 'uint8'), 'a dog').overlay()"
    )
    assert "onnxruntime" in modules
    assert not {"torch", "transformers", "onnx"} & modules


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_is_light(option):
    modules = loaded_after(
        f"sys.argv = ['salgan-edge', {option!r}]\n"
        "from salgan_edge.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 0, stop.code"
    )
    assert "typer" in modules
    assert not {"numpy", "onnxruntime", "cv2", "torch", "tokenizers"} & modules


def test_unknown_attribute_of_the_package():
    import salgan_edge

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = salgan_edge.nothing
