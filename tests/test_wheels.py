"""The packages of onnxruntime as people install them, each in an environment of its own.

    pytest -m wheels

downloads about 3 GB the first time. ``SALGAN_EDGE_WHEEL_ENVS`` may name a folder of ready virtual
environments (``full``, ``bare``, ``ov``, as below); those that it lacks are made. What assumes a
machine without a GPU is skipped where there is one.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from salgan_edge import samples
from salgan_edge.bundle import default_bundle
from salgan_edge.metrics import cc
from salgan_edge.verify.golden import tolerance_for

PHOTO = samples.path("coffee")

# Name of each environment, what is installed in it beside the project, and the project's extra.
ENVIRONMENTS = {
    "full": ("[gpu]", []),
    "bare": ("", ["onnxruntime-gpu"]),
    "ov": ("[openvino]", []),
    # One after the other, as it happens to people: the second overwrites the first.
    "both": ("", ["onnxruntime-gpu", "onnxruntime"]),
}


def loads(library):
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


pytestmark = [
    pytest.mark.wheels,
    pytest.mark.skipif(sys.platform != "linux", reason="names of libraries as on Linux"),
]
without_gpu = pytest.mark.skipif(loads("libcuda.so.1"), reason="this machine has a GPU")
without_cuda = pytest.mark.skipif(loads("libcublas.so.13"), reason="this machine has CUDA")
without_intel_gpu = pytest.mark.skipif(Path("/dev/dri").exists(), reason="this machine may have a GPU")


def checked(command, **options):
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, timeout=3000, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def environment(request, tmp_path_factory):
    """Folder of the virtual environment of a name; made when it is asked for the first time."""
    ready = os.environ.get("SALGAN_EDGE_WHEEL_ENVS")
    made = {}

    def find(name):
        if ready and (Path(ready) / name).is_dir():
            return Path(ready) / name
        if name not in made:
            extra, packages = ENVIRONMENTS[name]
            made[name] = tmp_path_factory.mktemp(name) / "venv"
            venv.create(made[name], with_pip=True)
            wheel = request.getfixturevalue("wheel_file")
            for package in [f"salgan-edge{extra} @ {wheel.as_uri()}", *packages]:
                checked([made[name] / "bin/pip", "install", "-q", package])
        return made[name]

    yield find
    # Gigabytes, which pytest would keep for three runs.
    for folder in made.values():
        shutil.rmtree(folder)


@pytest.fixture
def run(environment, tmp_path):
    """Run the command of an environment in an empty folder: exit code, standard output and error."""

    def call(name, *arguments):
        # Not the variables of the environment that the tests run in.
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        kept["SALGAN_EDGE_CACHE"] = str(tmp_path / "cache")
        command = [environment(name) / "bin/salgan-edge", *arguments]
        done = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, cwd=tmp_path, env=kept, check=False, timeout=300
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return call


# onnxruntime-gpu


DRIVER = "libcuda.so.1 is missing: it comes with the NVIDIA driver, install that (nvidia-smi must work)"
# The loader names the first library that it misses.
CUDA = r"lib(cublasLt|cublas|cudart|curand|cufft)\.so\.\d+ is missing: it is CUDA's, pip install 'onnxruntime-gpu\[cuda,cudnn\]'"
TENSORRT = (
    r"libnvinfer\.so\.10 is missing: it is TensorRT's, pip install 'tensorrt-cu13<11', or take --device cuda"
)

MISSING = [
    pytest.param("full", "cuda", re.escape(DRIVER), marks=without_gpu),
    pytest.param("bare", "cuda", CUDA, marks=without_cuda),
    pytest.param("full", "tensorrt", TENSORRT, marks=without_gpu),
    pytest.param("bare", "tensorrt", CUDA, marks=without_cuda),
]


@pytest.mark.parametrize(("name", "device", "reason"), MISSING)
@pytest.mark.parametrize("command", [["predict", PHOTO, "a spoon", "--json"], ["verify", "--json"]])
def test_device_by_name_names_the_missing_library(run, tmp_path, name, device, reason, command):
    code, out, err = run(name, *command, "--device", device)
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"error: {device} is not usable: {reason}; or use --device cpu\n", err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "reason"), [MISSING[0].values[::2], MISSING[1].values[::2]])
@without_gpu
def test_auto_runs_on_the_cpu_and_says_so_once(run, tmp_path, name, reason):
    code, out, err = run(name, "predict", PHOTO, "-t", "a spoon", "-t", "a cup", "--json")
    assert code == 0
    assert re.fullmatch(
        rf"warning: CUDA is there but not usable, so this runs on the CPU: {reason}; --device cpu silences this\n",
        err,
    )
    records = [json.loads(line) for line in out.splitlines()]
    assert [(record["text"], record["device"]) for record in records] == [
        ("a spoon", "cpu"),
        ("a cup", "cpu"),
    ]
    assert all((tmp_path / record["overlay"]).stat().st_size > 10_000 for record in records)


def test_cpu_is_quiet(run):
    """Also where the package has CUDA."""
    code, out, err = run("bare", "predict", PHOTO, "a spoon", "--device", "cpu")
    assert (code, out, err) == (0, "coffee_a-spoon.png\n", "")


@without_gpu
def test_debug_shows_the_log_of_onnxruntime(run):
    code, out, err = run("full", "--debug", "predict", PHOTO, "a spoon")
    assert (code, out) == (0, "coffee_a-spoon.png\n")
    assert "[I:onnxruntime:" in err
    assert "warning: CUDA is there but not usable" in err


# onnxruntime-openvino


def test_openvino_computes_what_the_cpu_does(run, tmp_path):
    maps = {}
    for device in ("cpu", "openvino"):
        code, out, err = run(
            "ov", "predict", PHOTO, "a spoon", "-t", "a cup of coffee", "--json", "--map-format", "npy",
            "--device", device, "-o", device,
        )  # fmt: skip
        assert code == 0, err
        # One operator stays on the CPU, which is said once.
        assert err.count("\n") == (device == "openvino")
        assert ("1 on CPUExecutionProvider" in err) == (device == "openvino")
        records = [json.loads(line) for line in out.splitlines()]
        assert {record["device"] for record in records} == {device}
        maps[device] = np.stack([np.load(tmp_path / record["map"]) for record in records])
    operators = records[0]["operators"]
    assert operators["OpenVINOExecutionProvider"] > 0.9 * sum(operators.values())
    allowed = tolerance_for("fp32", "openvino")
    assert np.abs(maps["cpu"] - maps["openvino"]).max() < allowed.saliency
    assert all(cc(*pair) > allowed.correlation for pair in zip(*maps.values(), strict=True))
    # The two maps differ by far more.
    assert np.abs(maps["cpu"][0] - maps["cpu"][1]).max() > 20 * allowed.saliency


def test_verify_passes_on_openvino(run):
    code, out, err = run("ov", "verify", "--device", "openvino", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["passed"], report["device"]) == (True, "openvino")
    assert report["versions"].keys() >= {"onnxruntime-openvino"}


def test_graph_that_is_damaged_is_not_the_fault_of_the_device(run, tmp_path):
    shutil.copytree(default_bundle(), tmp_path / "bundle")
    graph = tmp_path / "bundle/generator.onnx"
    graph.write_bytes(graph.read_bytes()[:50_000])
    code, out, err = run("ov", "verify", "bundle", "--device", "openvino", "--json")
    assert (code, err) == (1, "")
    failed = {check["name"] for check in json.loads(out)["checks"] if check["status"] == "fail"}
    assert failed == {"file generator.onnx", "contract of generator.onnx"}


def test_auto_is_the_cpu_where_openvino_is_installed(run):
    code, _, err = run("ov", "predict", PHOTO, "a spoon")
    assert (code, err) == (0, "")


# What is refused


ON_THE_CPU = (
    r"error: openvino does not run all of generator\.onnx: \d+ [A-Z]\w+(, \d+ \w+)* on CPUExecutionProvider; "
    r"leave out --strict to allow that\n"
)
NO_CUDA = (
    r"error: cuda was asked for, but the installed onnxruntime \(onnxruntime-openvino [\d.]+\) has no "
    r"CUDAExecutionProvider: pip uninstall -y onnxruntime-openvino && pip install 'onnxruntime-gpu\[cuda,cudnn\]'; "
    r"or use --device cpu\n"
)


@pytest.mark.parametrize(
    ("name", "options", "code", "message"),
    [
        pytest.param(
            "full", ["--strict"], 1, rf"error: cuda is not usable: {re.escape(DRIVER)}; or use --device cpu\n",
            marks=without_gpu,
        ),
        pytest.param(
            "ov", ["--device", "openvino", "--provider-option", "device_type=GPU"], 1,
            r"error: openvino is not usable with device_type=GPU: .+\n", marks=without_intel_gpu,
        ),
        ("ov", ["--device", "openvino", "--provider-option", "no_such=1"], 1, r".*no_such.*\n"),
        ("ov", ["--device", "openvino", "--strict"], 1, ON_THE_CPU),
        ("ov", ["--device", "cuda"], 1, NO_CUDA),
        (
            "bare", ["--device", "cuda", "--provider-option", "device_id=first"], 2,
            r"(?s).*device_id is 'first': the number of a device was expected.*",
        ),
    ],
)  # fmt: skip
def test_refusals(run, name, options, code, message):
    """What is wrong and what to do, and nothing else."""
    found, out, err = run(name, "predict", PHOTO, "a spoon", *options)
    assert (found, out) == (code, "")
    assert re.fullmatch(message, err)


# Two packages


def test_two_packages_and_the_way_out(environment, run):
    """One overwrites the other, uninstalling either breaks both, and what is printed then helps."""
    folder = environment("both")
    code, out, err = run("both", "predict", PHOTO, "a spoon", "--device", "cuda")
    assert (code, out) == (1, "")
    assert re.fullmatch(
        r"error: cuda was asked for, but the installed onnxruntime \(onnxruntime [\d.]+, onnxruntime-gpu [\d.]+\) "
        r"\(several overwrite each other\) has no CUDAExecutionProvider: pip uninstall -y onnxruntime onnxruntime-gpu && "
        r"pip install 'onnxruntime-gpu\[cuda,cudnn\]'; or use --device cpu\n",
        err,
    )
    checked([folder / "bin/pip", "uninstall", "-q", "-y", "onnxruntime"])
    code, out, err = run("both", "predict", PHOTO, "a spoon")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert re.match(r"error: the installed onnxruntime \(onnxruntime-gpu [\d.]+\) cannot be used: ", err)
    (uninstall,) = re.findall(r"pip (uninstall -y .+?), then pip install onnxruntime", err)
    checked([folder / "bin/pip", *uninstall.split()])
    code, _, err = run("both", "predict", PHOTO, "a spoon")
    assert code == 1
    assert err.startswith("error: onnxruntime is not installed: pip install onnxruntime")
    checked([folder / "bin/pip", "install", "-q", "onnxruntime"])
    code, out, err = run("both", "predict", PHOTO, "a spoon")
    assert (code, out, err) == (0, "coffee_a-spoon.png\n", "")
