"""What is loaded when: the runtime never needs PyTorch, and help needs next to nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

RUNTIME = (
    "salgan_edge", "salgan_edge.samples", "salgan_edge.cli", "salgan_edge.train.evaluation.measure", "salgan_edge.archive",
    "salgan_edge.binding", "salgan_edge.bundle", "salgan_edge.cli.arguments", "salgan_edge.cli.bake", "salgan_edge.cli.benchmark", "salgan_edge.cli.bundle",
    "salgan_edge.cli.data", "salgan_edge.cli.distill", "salgan_edge.cli.doctor", "salgan_edge.cli.evaluate", "salgan_edge.cli.execution",
    "salgan_edge.cli.export", "salgan_edge.cli.extras", "salgan_edge.cli.inspect", "salgan_edge.cli.messages", "salgan_edge.cli.names",
    "salgan_edge.cli.predict", "salgan_edge.cli.predict_videos", "salgan_edge.cli.stopping", "salgan_edge.cli.streams",
    "salgan_edge.cli.train", "salgan_edge.cli.verify", "salgan_edge.cli.webcam", "salgan_edge.contract", "salgan_edge.cpus",
    "salgan_edge.devices", "salgan_edge.doctor.bundle", "salgan_edge.doctor.cameras", "salgan_edge.doctor.child", "salgan_edge.doctor.cuda",
    "salgan_edge.doctor.device_problems", "salgan_edge.doctor.devices", "salgan_edge.doctor.examine", "salgan_edge.doctor.facts",
    "salgan_edge.doctor.graph", "salgan_edge.doctor.opencv", "salgan_edge.doctor.packages", "salgan_edge.doctor.plan",
    "salgan_edge.doctor.private", "salgan_edge.doctor.probe", "salgan_edge.doctor.problems", "salgan_edge.doctor.report",
    "salgan_edge.doctor.software_problems", "salgan_edge.doctor.system", "salgan_edge.doctor.video_problems", "salgan_edge.enlarge", "salgan_edge.errors",
    "salgan_edge.evaluate.absence", "salgan_edge.evaluate.pointing", "salgan_edge.evaluate.prompt_report", "salgan_edge.evaluate.prompts",
    "salgan_edge.evaluate.resampling", "salgan_edge.gaze.phrases", "salgan_edge.gaze.split",
    "salgan_edge.files", "salgan_edge.fit", "salgan_edge.images", "salgan_edge.live", "salgan_edge.live_output", "salgan_edge.metrics", "salgan_edge.naming",
    "salgan_edge.place", "salgan_edge.planning", "salgan_edge.predictor", "salgan_edge.prompts", "salgan_edge.recording",
    "salgan_edge.render", "salgan_edge.result", "salgan_edge.session", "salgan_edge.sources.addresses", "salgan_edge.sources.devices",
    "salgan_edge.sources.files", "salgan_edge.sources.frame", "salgan_edge.sources.handover", "salgan_edge.sources.live",
    "salgan_edge.sources.opencv", "salgan_edge.sources.opening", "salgan_edge.sources.pipe", "salgan_edge.stabilise",
    "salgan_edge.stored_zip", "salgan_edge.tokenizer", "salgan_edge.verification.checks", "salgan_edge.verification.contents",
    "salgan_edge.verification.contract_checks", "salgan_edge.verification.golden", "salgan_edge.verification.golden_checks",
    "salgan_edge.verification.graph_header", "salgan_edge.verification.inspection", "salgan_edge.verification.tolerance",
    "salgan_edge.verification.verify", "salgan_edge.video", "salgan_edge.viewer", "salgan_edge.window",
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
    present = {
        ".".join(("salgan_edge", *p.relative_to(folder).with_suffix("").parts))
        for p in folder.rglob("*.py")
        if not p.stem.startswith("_")
    }
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
