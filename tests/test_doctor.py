"""`salgan-edge doctor`: plans of made-up machines, probes that crash and hang, and the real command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from salgan_edge.bundle import default_bundle
from salgan_edge.cpus import cpu_quota
from salgan_edge.devices import DEVICES
from salgan_edge.doctor.devices import (
    TINY_GRAPH,
    TINY_X,
    TINY_Z,
    Cuda,
    DeviceFacts,
    Gpu,
    gather_cuda,
    gather_devices,
)
from salgan_edge.doctor.examine import Asked, BundleFacts, Facts, examine
from salgan_edge.doctor.private import Names, shorten
from salgan_edge.doctor.probe import Answer, ask, run_child
from salgan_edge.doctor.problems import make_plan
from salgan_edge.doctor.report import to_dict, to_text
from salgan_edge.doctor.system import Imported, Packages, Processor, Python, System, version_key
from salgan_edge.doctor.vision import Camera, Cameras, Display, OpenCV, describe, gather_display

NOBODY = Names("/home/nobody-here", "nobody-here", "no-such-host")
CPU, GPU = ("onnxruntime", "1.30.0"), ("onnxruntime-gpu", "1.30.0")
CUDNN = "cuda is not usable: libcudnn.so.9 is missing: it is cuDNN's, pip install 'onnxruntime-gpu[cuda,cudnn]'; or use --device cpu"
H100 = Cuda(("/dev/nvidia0",), gpus=(Gpu("H100", 81559, "9.0"),), driver="580.1", driver_cuda="13.0")


def device(name="cpu", **values):
    """Facts of a device, working if it is listed."""
    kind = DEVICES[name]
    listed = values.pop("listed", True)
    works = values.pop("works", listed and "problem" not in values)
    return DeviceFacts(
        name, kind.provider, kind.package, kind.extra, listed=listed, tried=listed, works=works, milliseconds=9.0, **values
    )  # fmt: skip


def packages(*onnxruntimes, opencv=("opencv-python",), problems=None, **values):
    """Facts of packages that can be imported but for `problems`."""
    problems = problems or {}
    names = ("numpy", "opencv", "tokenizers", "onnxruntime")
    imports = {
        name: Imported(None if name in problems else "1.0", problem=problems.get(name, "")) for name in names
    }
    runtime = replace(imports["onnxruntime"], details={"providers": [], "cuda": values.pop("cuda", None)})
    installed = {
        "numpy": "2.1",
        "tokenizers": "0.21",
        "typer": "0.16",
        **dict(onnxruntimes),
        **values.pop("installed", {}),
    }
    return Packages(
        installed={**installed, **dict.fromkeys(opencv, "4.11.0.86")},
        required={"numpy": "1.26", "opencv-python": "4.9", "tokenizers": "0.20", "typer": "0.15"},
        onnxruntime=dict(onnxruntimes),
        opencv=dict.fromkeys(opencv, "4.11.0.86"),
        imports={**imports, "onnxruntime": runtime},
        **values,
    )  # fmt: skip


WELL = Facts(
    python=Python("3.12.3", pip="pip"),
    system=System(name="Ubuntu 24.04 LTS", machine="x86_64", manager="apt-get"),
    processor=Processor("a CPU", ("avx2",), 8, 8, None, 8, 16 * 2**30, 8 * 2**30),
    packages=packages(CPU),
    devices=(device(), device("cuda", listed=False)),
    opencv=OpenCV(("V4L2",), ("FFMPEG",), "QT"),
    display=Display(expected=True, display=":0", works=True),
    cameras=Cameras(looked=True),
    bundle=BundleFacts(tried=True, works=True, device="cpu", load=50.0, generator=5.0),
)
"""A machine on which all is well."""

JETSON = replace(
    WELL,
    system=System(name="Ubuntu 22.04 LTS", machine="aarch64", manager="apt-get", jetson="# R36 (release), REVISION: 4.3"),
    cuda=Cuda(("/dev/nvhost-gpu",), driver_cuda="12.6"),
)  # fmt: skip

GPU_MACHINE = replace(
    WELL,
    cuda=H100,
    packages=packages(GPU, cuda="13.0"),
    devices=(device(), device("cuda"), device("tensorrt")),
)
"""A machine on which CUDA works."""


def cuda_fails(problem=CUDNN, **values):
    return replace(GPU_MACHINE, devices=(device(), device("cuda", problem=problem)), **values)


def problem_of(facts, part):
    """The only problem of a part: severity, sentence, commands."""
    (found,) = [problem for problem in make_plan(facts).problems if problem.part == part]
    return found.severity, found.what, list(found.commands)


# The plan


@pytest.mark.parametrize("facts", [WELL, GPU_MACHINE])
def test_all_is_well(facts):
    plan = make_plan(facts)
    assert plan.problems == ()
    assert plan.ready
    assert to_text(facts, plan, NOBODY).splitlines()[-1] == (
        'all is well; next: salgan-edge predict IMAGE "a red ball"'
    )


CASES = {
    "both packages, no NVIDIA device": (
        replace(WELL, packages=packages(CPU, GPU, wanted_by={"onnxruntime": ("rembg",)})),
        "package onnxruntime", "warning", "(rembg brought one of them",
        ["pip uninstall -y onnxruntime onnxruntime-gpu", "pip install onnxruntime"],
    ),
    "both packages, NVIDIA device": (
        replace(WELL, cuda=H100, packages=packages(CPU, GPU)),
        "package onnxruntime", "warning", "onnxruntime and onnxruntime-gpu are installed together",
        ["pip uninstall -y onnxruntime onnxruntime-gpu", "pip install 'onnxruntime-gpu[cuda,cudnn]'"],
    ),
    "both packages, one was taken away": (
        replace(
            WELL,
            packages=packages(CPU, ("onnxruntime-openvino", "1.24"), problems={"onnxruntime": "no InferenceSession"}),
            devices=(), bundle=BundleFacts(),
        ),
        "package onnxruntime", "error", "overwrite each other's files",
        ["pip uninstall -y onnxruntime onnxruntime-openvino", "pip install onnxruntime-openvino"],
    ),
    "onnxruntime missing": (
        replace(WELL, packages=packages(problems={"onnxruntime": "No module named 'onnxruntime'"}), devices=(), bundle=BundleFacts()),
        "package onnxruntime", "error", "onnxruntime is not installed", ["pip install onnxruntime"],
    ),
    "onnxruntime missing beside a GPU, in uv's environment": (
        replace(
            WELL, cuda=H100, python=Python(pip="uv pip"), devices=(), bundle=BundleFacts(),
            packages=packages(problems={"onnxruntime": "No module named 'onnxruntime'"}),
        ),
        "package onnxruntime", "error", "not installed", ["uv pip install 'onnxruntime-gpu[cuda,cudnn]'"],
    ),
    "onnxruntime missing on Windows": (
        replace(
            WELL, system=System("Windows"), devices=(), bundle=BundleFacts(),
            packages=packages(problems={"onnxruntime": "No module named 'onnxruntime'"}),
        ),
        "package onnxruntime", "error", "not installed", ["pip install onnxruntime"],
    ),
    "no Visual C++ runtime": (
        replace(
            WELL, system=System("Windows"), devices=(), bundle=BundleFacts(),
            packages=packages(CPU, problems={"onnxruntime": "DLL load failed while importing onnxruntime_pybind11_state"}),
        ),
        "package onnxruntime", "error", "Visual C++", ["winget install Microsoft.VCRedist.2015+.x64"],
    ),
    "numpy broken": (
        replace(WELL, packages=packages(CPU, problems=dict.fromkeys(("numpy", "opencv", "onnxruntime"), "crashed (SIGILL)")), devices=(), bundle=BundleFacts()),
        "package numpy", "error", "crashed (SIGILL)", ["pip install --force-reinstall --no-deps numpy"],
    ),
    "a slim image without libGL": (
        replace(
            WELL, bundle=BundleFacts(), system=replace(WELL.system, container="docker"),
            packages=packages(CPU, problems={"opencv": "libGL.so.1: cannot open shared object file: No such file or directory"}),
        ),
        "package opencv", "error", "libGL.so.1 is missing", ["apt-get update && apt-get install -y libgl1"],
    ),
    "no libGL and no apt": (
        replace(
            WELL, bundle=BundleFacts(), system=System(name="Fedora", manager="dnf"),
            packages=packages(CPU, problems={"opencv": "libGL.so.1: cannot open shared object file: No such file or directory"}),
        ),
        "package opencv", "error", "libGL.so.1 is missing",
        ["pip uninstall -y opencv-python", "pip install opencv-python-headless"],
    ),
    "numpy too old": (
        replace(WELL, packages=packages(CPU, installed={"numpy": "1.24.4"})),
        "package numpy", "warning", "numpy 1.24.4 is installed, 1.26 or newer", ["pip install --upgrade 'numpy>=1.26'"],
    ),
    "two OpenCVs": (
        replace(WELL, packages=packages(CPU, opencv=("opencv-python", "opencv-python-headless"))),
        "package opencv", "warning", "opencv-python and opencv-python-headless are installed together",
        ["pip uninstall -y opencv-python opencv-python-headless", "pip install 'opencv-python>=4.9'"],
    ),
    "32 bit": (
        replace(WELL, python=Python(bits=32)), "python", "error", "64-bit Python", [],
    ),
    "Alpine": (
        replace(WELL, system=System(libc="musl")), "system", "error", "musl", ["docker run -it python:3.12-slim bash"],
    ),
    "CUDA's library missing, nothing of NVIDIA's from pip": (
        cuda_fails(), "device cuda", "warning", "cuda cannot be used: libcudnn.so.9 is missing",
        ["pip install 'onnxruntime-gpu[cuda,cudnn]'"],
    ),
    "CUDA's library missing although installed": (
        cuda_fails(packages=packages(GPU, cuda="13.0", installed={"nvidia-cublas": "13.0"})),
        "device cuda", "warning", "libcudnn.so.9 is missing",
        ["pip install --force-reinstall 'onnxruntime-gpu[cuda,cudnn]'"],
    ),
    "the driver is too old": (
        cuda_fails(cuda=replace(H100, driver="535.1", driver_cuda="12.2")),
        "device cuda", "warning", "the driver 535.1 runs CUDA 12.2 at most, this onnxruntime needs 13.0",
        ["sudo ubuntu-drivers install", "sudo reboot"],
    ),
    "no driver": (
        cuda_fails(cuda=Cuda(in_machine=True), system=System(name="Debian 12", manager="apt-get")),
        "device cuda", "warning", "no driver that works", ["sudo apt-get install -y nvidia-driver", "sudo reboot"],
    ),
    "hidden devices": (
        cuda_fails(system=replace(WELL.system, settings={"CUDA_VISIBLE_DEVICES": ""})),
        "device cuda", "warning", "CUDA_VISIBLE_DEVICES hides", ["unset CUDA_VISIBLE_DEVICES"],
    ),
    "a GPU that may not be opened": (
        cuda_fails(cuda=replace(H100, unreadable=("/dev/nvidia0",))),
        "device cuda", "warning", "may not open /dev/nvidia0", ['sudo usermod -aG video,render "$USER"', "sudo reboot"],
    ),
    "CUDA hangs": (
        cuda_fails("no answer within 30 s: it hangs, or needs a longer --timeout"),
        "device cuda", "warning", "it hangs", ["salgan-edge doctor --device cuda --timeout 180"],
    ),
    "the package for GPUs without one": (
        cuda_fails(cuda=Cuda()), "device cuda", "warning", "there is no NVIDIA device",
        ["pip uninstall -y onnxruntime-gpu", "pip install onnxruntime"],
    ),
    "a container without its GPU": (
        cuda_fails(cuda=Cuda(), system=replace(WELL.system, container="docker")),
        "device cuda", "warning", "no NVIDIA device that this process sees", ["docker run --gpus all IMAGE"],
    ),
    "a GPU and the package for CPUs": (
        replace(WELL, cuda=H100), "device cuda", "warning", "the installed onnxruntime has no CUDA",
        ["pip uninstall -y onnxruntime", "pip install 'onnxruntime-gpu[cuda,cudnn]'"],
    ),
    "TensorRT is not there": (
        replace(GPU_MACHINE, devices=(device(), device("cuda"), device("tensorrt", problem="tensorrt is not usable: libnvinfer.so.10 is missing"))),
        "device tensorrt", "note", "libnvinfer.so.10 is missing (TensorRT is optional)", ["pip install tensorrt-cu13"],
    ),
    "a Jetson with JetPack 6": (
        JETSON, "device cuda", "warning", "there is an NVIDIA device",
        ["pip uninstall -y onnxruntime", "pip install onnxruntime-gpu --extra-index-url INDEX_OF_NVIDIA_FOR_YOUR_JETPACK"],
    ),
    "a Jetson with JetPack 7": (
        replace(JETSON, system=replace(JETSON.system, jetson="# R38 (release), REVISION: 2.0")),
        "device cuda", "warning", "there is an NVIDIA device",
        ["pip uninstall -y onnxruntime", "pip install 'onnxruntime-gpu[cuda,cudnn]'"],
    ),
    "OpenVINO was asked for": (
        replace(WELL, asked=Asked("openvino"), devices=(device("openvino", listed=False),), bundle=BundleFacts()),
        "device openvino", "error", "openvino was asked for but cannot be used: the installed onnxruntime does not have it",
        ["pip uninstall -y onnxruntime", "pip install onnxruntime-openvino"],
    ),
    "CoreML was asked for on Linux": (
        replace(WELL, asked=Asked("coreml"), devices=(device("coreml", listed=False, possible=False),), bundle=BundleFacts()),
        "device coreml", "error", "it is for macOS only", ["salgan-edge predict IMAGE TEXT --device cpu"],
    ),
    "a device that does nothing": (
        replace(WELL, devices=(device(), device("openvino", operators={"CPUExecutionProvider": 3}))),
        "device openvino", "warning", "the CPU ran all of it", [],
    ),
    "wrong results on the CPU": (
        replace(WELL, devices=(device(problem="it computes [1.0] where [6.0] was expected"),)),
        "device cpu", "error", "does not compute on the CPU", ["pip install --force-reinstall --no-deps onnxruntime"],
    ),
    "the package's bundle is damaged": (
        replace(WELL, bundle=BundleFacts(tried=True, damaged=True, problem="file generator.onnx: changed")),
        "bundle", "error", "the bundle in the package is damaged", ["pip install --force-reinstall --no-deps salgan-edge"],
    ),
    "another bundle is damaged": (
        replace(WELL, bundle=BundleFacts("my bundle", tried=True, damaged=True, problem="file generator.onnx: changed")),
        "bundle", "error", "the bundle my bundle cannot be used", ["salgan-edge verify 'my bundle'"],
    ),
    "the default device fails, the CPU does not": (
        replace(GPU_MACHINE, bundle=BundleFacts(tried=True, problem="crashed (SIGSEGV)", cpu_instead=True)),
        "bundle", "error", "a prediction fails: crashed (SIGSEGV)", ["salgan-edge predict IMAGE TEXT --device cpu"],
    ),
    "nothing is known": (
        replace(WELL, bundle=BundleFacts()), "bundle", "error", "not tried", ["salgan-edge --debug verify"],
    ),
    "little memory": (
        replace(WELL, processor=replace(WELL.processor, memory_limit=128 * 2**20)),
        "memory", "warning", "134 MB of memory are free", [],
    ),
    "no display": (
        replace(WELL, display=Display()), "window", "note", "no display is set (DISPLAY)", [],
    ),
    "SSH": (
        replace(WELL, display=Display(ssh=True)), "window", "note", "session over SSH", ["ssh -Y USER@THIS_MACHINE"],
    ),
    "a display, and OpenCV without windows": (
        replace(WELL, display=Display(expected=True, display=":0"), opencv=OpenCV(), packages=packages(CPU, opencv=("opencv-python-headless",))),
        "window", "warning", "opencv-python-headless opens no windows",
        ["pip uninstall -y opencv-python-headless", "pip install opencv-python"],
    ),
    "Qt lacks libraries": (
        replace(WELL, display=Display(expected=True, display=":0", works=False, problem='crashed (SIGABRT): Could not load the Qt platform plugin "xcb"')),
        "window", "warning", "no window can be opened on :0",
        ["sudo apt-get install -y libxkbcommon-x11-0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-render-util0"],
    ),
    "a camera without permission": (
        replace(WELL, cameras=Cameras(looked=True, found=(Camera(0, "/dev/video0", "HD Webcam", allowed=False, group="video"),), in_video_group=False)),
        "camera 0", "warning", "camera 0 (HD Webcam): this user may not open /dev/video0", ['sudo usermod -aG video "$USER"'],
    ),
    "a camera without permission in a container": (
        replace(
            WELL, system=replace(WELL.system, container="docker"),
            cameras=Cameras(looked=True, found=(Camera(2, "/dev/video2", allowed=False, group="44"),)),
        ),
        "camera 2", "warning", "may not open /dev/video2", ["docker run --device /dev/video2 --group-add 44 IMAGE"],
    ),
    "a camera in use": (
        replace(WELL, cameras=Cameras(looked=True, found=(Camera(0, "/dev/video0", tried=True, works=False, problem="it cannot be opened"),))),
        "camera 0", "warning", "camera 0: it cannot be opened", ["fuser -v /dev/video0"],
    ),
    "a part of the examination failed": (
        replace(WELL, failures={"display": "OSError: x"}), "examination", "note", "please report it", ["salgan-edge doctor --json"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_plan(case):
    facts, part, severity, what, commands = CASES[case]
    found = problem_of(facts, part)
    assert found[0] == severity
    assert what in found[1]
    assert found[2] == commands
    plan = make_plan(facts)
    assert plan.ready == (severity != "error")
    # Nothing else is wrong with that machine: one cause, one problem.
    assert len(plan.problems) == 1, plan.problems
    assert f"1. {severity}: " in to_text(facts, plan, NOBODY)


def test_a_system_that_pip_may_not_touch():
    facts = replace(WELL, cuda=H100, python=Python(externally_managed=True, pip="/usr/bin/python3 -m pip"))
    severities = [problem.severity for problem in make_plan(facts).problems]
    assert severities == ["warning", "note"]
    assert problem_of(facts, "python")[2] == [
        "python3 -m venv ~/salgan-edge",
        ". ~/salgan-edge/bin/activate",
        "pip install 'salgan-edge[gpu]'",
    ]
    # Where nothing is to be installed, there is nothing to refuse.
    assert make_plan(replace(WELL, python=facts.python)).problems == ()


def test_environment_without_pip():
    facts = replace(WELL, cuda=H100, python=Python(pip="/v/bin/python -m pip", pip_missing=True))
    assert problem_of(facts, "device cuda")[2][-1] == (
        "/v/bin/python -m ensurepip && /v/bin/python -m pip install 'onnxruntime-gpu[cuda,cudnn]'"
    )


def test_gravest_problem_comes_first_and_marks_its_row():
    facts = replace(
        WELL,
        display=Display(),
        cuda=H100,
        bundle=BundleFacts(tried=True, damaged=True, problem="file generator.onnx: changed"),
    )
    plan = make_plan(facts)
    assert [problem.severity for problem in plan.problems] == ["error", "warning", "note"]
    text = to_text(facts, plan, NOBODY)
    rows = {line.split()[1]: line.split()[0] for line in text.splitlines() if line.startswith("  ")}
    assert (rows["bundle"], rows["cuda"], rows["window"], rows["numpy"]) == ("error", "warning", "note", "ok")
    assert text.splitlines()[-1] == "NOT READY: 1 error to fix first"


# Subprocesses


def test_answer_of_a_subprocess():
    code = "import os; os.write(2, b'noise'); print('native noise'); print('{\"a\": 1}')"
    assert run_child([sys.executable, "-c", code], 20).values == {"a": 1}
    assert run_child(["/no/such/program"], 5).problem.startswith("cannot be started: ")
    assert run_child([sys.executable, "-c", "print('no JSON')"], 20).problem == (
        "ended with exit code 0 and no answer"
    )


def test_hanging_subprocess():
    found = run_child(
        [
            sys.executable,
            "-c",
            "import sys, time; print('here', file=sys.stderr, flush=True); time.sleep(60)",
        ],
        1,
    )
    assert "no answer within 1 s" in found.problem
    assert found.stderr == ("here",)
    assert 1 <= found.seconds < 5


@pytest.mark.skipif(sys.platform == "win32", reason="a shell")
def test_hanging_subprocess_whose_child_lives_on():
    found = run_child(["/bin/sh", "-c", "sleep 6; true"], 0.2)
    assert "no answer within 0.2 s" in found.problem
    assert found.stderr == ()
    assert found.seconds < 5


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import os, sys; print('libx: bad', file=sys.stderr, flush=True); os.abort()", "crashed (SIGABRT): libx: bad"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed (SIGSEGV)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "crashed (SIGILL: a build for another CPU)"),
        ("import sys; sys.exit('no licence')", "ended with exit code 1 and no answer: no licence"),
    ],
)  # fmt: skip
def test_crashing_subprocess(code, problem):
    assert run_child([sys.executable, "-c", code], 20).problem == problem


def test_probe_has_the_same_import_path(tmp_path, monkeypatch):
    """A file of the current folder counts where it counts for us, and not where it does not."""
    (tmp_path / "tokenizers.py").write_text("raise ImportError('mine')")
    monkeypatch.chdir(tmp_path)
    assert ask("import", "tokenizers", timeout=30).problem == ""
    monkeypatch.syspath_prepend(str(tmp_path))
    assert ask("import", "tokenizers", timeout=30).problem == "mine"


def test_probe_module_is_a_program():
    command = [sys.executable, "-m", "salgan_edge.doctor.probe", "cpu"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    (line,) = found.stdout.splitlines()
    assert json.loads(line)["operators"] == {"CPUExecutionProvider": 3}


# The tiny graph


def test_tiny_graph_is_what_onnx_makes():
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    values = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 1, 3, 3]) for n in ("x", "z")
    ]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["c", "two"], ["m"]),
        helper.make_node("Relu", ["m"], ["z"]),
    ]
    weights = [
        numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w"),
        numpy_helper.from_array(np.asarray([2], np.float32), "two"),
    ]
    made = helper.make_graph(nodes, "tiny", values[:1], values[1:], weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    assert onnx.load_from_string(TINY_GRAPH) == model


def test_tiny_graph_by_hand():
    x = np.pad(np.asarray(TINY_X), 1)
    z = [[max(0, 2 * x[i : i + 3, j : j + 3].sum()) for j in range(3)] for i in range(3)]
    assert np.array_equal(z, TINY_Z)
    assert any(value == 0 for row in TINY_Z for value in row)


def test_devices_that_are_not_listed_are_not_tried():
    found = {facts.name: facts for facts in gather_devices(["CPUExecutionProvider"], 30)}
    assert set(found) == set(DEVICES)
    assert [name for name, facts in found.items() if facts.tried] == ["cpu"]
    assert found["cpu"].works
    assert found["coreml"].possible == (sys.platform == "darwin")


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="CUDA may work here")
def test_device_asked_for_is_tried():
    (found,) = gather_devices(["CPUExecutionProvider"], 30, only="cuda")
    assert (found.tried, found.works) == (True, False)
    assert "CUDAExecutionProvider" in found.problem


# Parts


def test_names_are_left_out():
    names = Names("/home/ada", "ada", "box-seven")
    for text, expected in {
        "/home/ada/.venv/bin/python": "~/.venv/bin/python",
        "/home/adamant/x": "~/x",
        "/media/ada/disk": "/media/<user>/disk",
        "ada is a language": "ada is a language",
        "X of box-seven:0 refused": "X of <host>:0 refused",
        r"C:\Users\Grace\x": r"~\x",
        "built in /home/ci/work": "built in ~/work",
        "/usr/lib/python3": "/usr/lib/python3",
    }.items():
        assert shorten(text, names) == expected
    # A home right below the root folder is one like others, and the root folder is no home.
    assert shorten("/boss/x", Names("/boss", "boss", "")) == "~/x"
    assert shorten("/usr/x", Names("/", "", "")) == "/usr/x"


def test_report_without_names():
    facts = replace(
        WELL,
        python=replace(WELL.python, executable="/home/zoe/v/bin/python", pip="/home/zoe/v/bin/python -m pip"),
        cuda=H100,
        failures={"display": "OSError: /home/zoe/.Xauthority of box-seven"},
    )
    names = Names("/home/zoe", "zoe", "box-seven")
    plan = make_plan(facts)
    for report in (to_text(facts, plan, names), json.dumps(to_dict(facts, plan, names))):
        assert "zoe" not in report
        assert "box-seven" not in report
        assert "~/v/bin/python -m pip install 'onnxruntime-gpu[cuda,cudnn]'" in report


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({}, "0::/", None),
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000", "other/cpu.max": "1 100000"}, "0::/a/b", 0.5),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/docker/xyz\n2:memory:/", 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/", None),
        (
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "50000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            "3:cpu,cpuacct:/x", 0.5,
        ),
    ],
)  # fmt: skip
def test_cpu_quota(tmp_path, files, own, expected):
    for name, content in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    (tmp_path / "own").write_text(own)
    assert cpu_quota(tmp_path / "root", tmp_path / "own") == expected


def test_versions_are_compared_as_numbers():
    assert version_key("1.10") > version_key("1.9.2")
    assert version_key("5.0.0.93") > version_key("4.9")
    assert version_key("2.0rc1") == (2, 0)
    assert version_key("unknown") == ()


def test_opencv_without_windows():
    class Headless:
        """Like the headless package: no function for the window system, and none in the list."""

        IMREAD_COLOR = 1
        imencode = staticmethod(lambda _, pixels: (True, pixels))
        imdecode = staticmethod(lambda pixels, _: pixels)
        getBuildInformation = staticmethod(  # noqa: N815
            lambda: "\n  GUI:                           NONE\n\n  Media I/O: \n"
        )

    assert describe(Headless)["gui"] == ""
    Headless.getBuildInformation = staticmethod(
        lambda: "  GUI:                           QT5\n    QT:     YES\n"
    )
    assert describe(Headless)["gui"] == "QT5"
    del Headless.imdecode
    with pytest.raises(ImportError, match="empty"):
        describe(Headless)


@pytest.mark.skipif(sys.platform != "linux", reason="displays have names")
@pytest.mark.usefixtures("no_display")
def test_display_that_nobody_serves(monkeypatch):
    assert gather_display("QT", 30) == Display()
    monkeypatch.setenv("DISPLAY", ":4077")
    assert gather_display("", 30).works is None
    found = gather_display("QT", 30)
    # Qt ends the process; the package without windows raises.
    assert (found.expected, found.works) == (True, False)
    assert found.problem
    severity, what, _ = problem_of(replace(WELL, display=found), "window")
    assert severity == "warning"
    assert what.startswith(f"no window can be opened on :4077: {found.problem}")


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="no virtual display")
@pytest.mark.usefixtures("no_display")
def test_window_on_a_virtual_display(monkeypatch):
    if not ask("import", "cv2", timeout=60).values["details"]["gui"]:
        pytest.skip("this OpenCV has no windows")
    read, write = os.pipe()
    with subprocess.Popen(
        ["Xvfb", "-displayfd", str(write)], pass_fds=[write], stderr=subprocess.DEVNULL
    ) as server:
        try:
            monkeypatch.setenv("DISPLAY", f":{os.read(read, 20).decode().strip()}")
            found = gather_display("QT", 30)
        finally:
            server.terminate()
            os.close(read)
            os.close(write)
    assert (found.expected, found.works, found.problem) == (True, True, "")


@pytest.mark.skipif(sys.platform != "linux", reason="cameras have files")
def test_cameras(monkeypatch):
    """One without permission, one that works and its second node, one that hangs, and more than are tried."""
    from salgan_edge.doctor import vision as module

    frame = {"captures": True, "width": 640, "height": 480, "backend": "V4L2", "first_frame": 90.0}
    answers = {
        "1": Answer(frame), "2": Answer({"captures": False}), "3": Answer(problem="it hangs"),
        **{str(number): Answer(frame) for number in range(4, 9)},
    }  # fmt: skip
    monkeypatch.setattr(module, "ask", lambda _, number, **__: answers[number])
    nodes = [Camera(number, f"/dev/video{number}", allowed=number > 0) for number in range(9)]
    monkeypatch.setattr(module, "_listed", lambda: nodes)
    found = module.gather_cameras(1).found
    assert [camera.works for camera in found] == [None, True, None, False, True, True, None, None, None]
    assert [camera.captures for camera in found].count(False) == 1
    assert (found[1].width, found[1].height, found[1].first_frame) == (640, 480, 90.0)
    assert [camera.works for camera in module.gather_cameras(1, usable=False).found] == [None] * 9
    facts = replace(WELL, cameras=Cameras(looked=True, found=found))
    assert [problem.part for problem in make_plan(facts).problems] == ["camera 0", "camera 3"]
    text = to_text(facts, make_plan(facts), NOBODY)
    assert "640x480 by V4L2, first frame in 90 ms" in text
    assert "/dev/video2: gives no pictures" in text


def test_camera_that_is_not_there():
    assert "it cannot be opened" in ask("camera", "63", timeout=60).problem


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
@pytest.mark.parametrize(
    ("script", "driver", "problem"),
    [
        ("echo 'NVIDIA H100, 580.95.05, 81559, 9.0'; echo 'Tesla T4, 580.95.05, 15360, 7.5'", "580.95.05", ""),
        ("echo 'NVIDIA-SMI has failed because it could not communicate' ; exit 9", "", "nvidia-smi: NVIDIA-SMI has failed"),
        ("exec sleep 60", "", "nvidia-smi gives no answer within 1 s"),
    ],
)  # fmt: skip
def test_driver(tmp_path, monkeypatch, script, driver, problem):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = gather_cuda(1, libraries=False)
    assert found.driver == driver
    assert found.driver_problem.startswith(problem)
    assert [gpu.name for gpu in found.gpus] == (["NVIDIA H100", "Tesla T4"] if driver else [])
    if driver:
        assert found.present
        assert found.gpus[1] == Gpu("Tesla T4", 15360, "7.5")


def test_a_part_that_fails_is_noted(monkeypatch):
    from salgan_edge.doctor import examine as module

    def fail(*_, **__):
        raise OSError("no such thing")

    for part in ("gather_system", "gather_devices", "gather_display", "gather_bundle"):
        monkeypatch.setattr(module, part, fail)
    facts = examine(cameras=False, timeout=30)
    assert facts.failures == dict.fromkeys(
        ("system", "devices", "display", "bundle"), "OSError: no such thing"
    )
    assert facts.packages.imports["numpy"].version == np.__version__
    plan = make_plan(facts)
    assert not plan.ready
    assert to_text(facts, plan)


# The real command


KEYS = {
    "": {
        "report_version", "ready", "problems", "next", "asked", "python", "system", "processor", "packages", "devices",
        "cuda", "opencv", "display", "cameras", "bundle", "failures", "seconds",
    },
    "python": {
        "version", "implementation", "executable", "environment", "bits", "free_threaded", "translated",
        "externally_managed", "pip", "pip_missing",
    },
    "system": {
        "kind", "name", "release", "machine", "libc", "board", "jetson", "container", "wsl", "manager", "settings",
    },
    "processor": {
        "model", "features", "cores", "affinity", "quota", "allowed", "memory", "memory_free", "memory_limit",
    },
    "packages": {"salgan_edge", "installed", "required", "onnxruntime", "opencv", "wanted_by", "imports"},
    "cuda": {
        "device_files", "unreadable", "in_machine", "gpus", "driver", "driver_cuda", "driver_problem", "libraries", "problem",
    },
    "display": {"expected", "display", "session", "ssh", "works", "problem", "stderr", "seconds"},
    "cameras": {"looked", "found", "in_video_group"},
    "bundle": {
        "bundle", "asked_device", "tried", "works", "problem", "stderr", "failed", "damaged", "checks", "name",
        "bundle_id", "precision", "device", "load", "generator", "text_first", "text", "cpu_instead",
    },
}  # fmt: skip


@pytest.fixture
def no_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_display")
def test_json(run):
    code, out, err = run("doctor", "--json", "--no-cameras")
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert report["ready"] is True
    for part, keys in KEYS.items():
        assert set(report[part] if part else report) == keys, part
    assert report["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert report["processor"]["cores"] == os.cpu_count()
    assert report["packages"]["imports"]["numpy"]["version"] == np.__version__
    cpu = next(device for device in report["devices"] if device["name"] == "cpu")
    assert cpu["works"] is True
    assert cpu["operators"] == {"CPUExecutionProvider": 3}
    bundle = report["bundle"]
    manifest = json.loads((default_bundle() / "bundle.json").read_text())
    assert (bundle["works"], bundle["bundle_id"]) == (True, manifest["bundle_id"])
    assert all(0 < bundle[time] < 60_000 for time in ("load", "generator", "text", "text_first"))
    assert report["cameras"] == {"looked": False, "found": [], "in_video_group": None}
    assert report["failures"] == {}
    if sys.platform == "linux":
        assert report["processor"]["affinity"] == len(os.sched_getaffinity(0))
        assert report["display"]["works"] is None


@pytest.mark.skipif(
    sys.platform != "linux" or any(Path("/dev").glob("video*")), reason="a machine without cameras"
)
@pytest.mark.usefixtures("no_display")
def test_text(run):
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("salgan-edge ")
    for words in (
        "ok cpu computes;",
        "ok numpy",
        "-- cameras none found",
        "note window",
        "ok bundle clip-salgan-edge",
    ):
        assert any(" ".join(line.split()).startswith(words) for line in lines), words
    assert lines[-1] == 'all is well; next: salgan-edge predict IMAGE "a red ball"'
    assert max(map(len, lines)) <= 120


def test_broken_bundle(run, tmp_path):
    copy = tmp_path / "my bundle"
    shutil.copytree(default_bundle(), copy)
    content = bytearray((copy / "generator.onnx").read_bytes())
    content[len(content) // 2] ^= 255
    (copy / "generator.onnx").write_bytes(content)
    code, out, _ = run("doctor", "--no-cameras", "--device", "cpu", "--bundle", copy)
    assert code == 1
    assert "file generator.onnx" in out
    assert f"salgan-edge verify '{copy}'" in out
    assert out.splitlines()[-1] == "NOT READY: 1 error to fix first"


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="CUDA may work here")
def test_device_that_is_not_there(run, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, out, err = run("doctor", "--no-cameras", "--device", "cuda", "--json")
    assert "looking at: devices" in err
    report = json.loads(out)
    assert code == 1
    assert [facts["name"] for facts in report["devices"]] == ["cuda"]
    assert report["problems"][0]["part"] == "device cuda"
    assert report["bundle"]["tried"] is False


def command(folder, *arguments):
    """The command in a process where modules of `folder` come before the installed ones."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    found = subprocess.run(
        [sys.executable, "-m", "salgan_edge", "doctor", "--no-cameras", "--json", *map(str, arguments)],
        capture_output=True, text=True, timeout=60, env=environment, check=False, cwd=folder,
    )  # fmt: skip
    assert found.stderr == ""
    return found.returncode, json.loads(found.stdout)


@pytest.mark.parametrize(
    ("package", "title"),
    [("onnxruntime", "onnxruntime"), ("cv2", "opencv"), ("numpy", "numpy"), ("tokenizers", "tokenizers")],
)
def test_package_that_cannot_be_imported(tmp_path, package, title):
    """Also the report itself does without it."""
    (tmp_path / f"{package}.py").write_text("raise ImportError('libbroken.so.7: wrong ELF class')")
    code, report = command(tmp_path)
    assert code == 1
    errors = [problem for problem in report["problems"] if problem["severity"] == "error"]
    assert [problem["part"] for problem in errors] == [f"package {title}"]
    assert "libbroken.so.7: wrong ELF class" in errors[0]["what"]
    assert errors[0]["commands"]
    assert report["failures"] == {}
    assert report["bundle"]["tried"] is False
    broken = {name for name, found in report["packages"]["imports"].items() if found["problem"]}
    # What needs numpy breaks with it.
    assert (broken - {"opencv", "onnxruntime"} if package == "numpy" else broken) == {title}


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import ctypes; ctypes.string_at(0)", "crashed (SIGSEGV)"),
        ("import time; time.sleep(60)", "no answer within 2 s"),
    ],
)
def test_package_that_crashes_or_hangs(tmp_path, code, problem):
    (tmp_path / "onnxruntime.py").write_text(code)
    status, report = command(tmp_path, "--timeout", 2)
    assert status == 1
    assert problem in report["packages"]["imports"]["onnxruntime"]["problem"]
    assert report["packages"]["imports"]["onnxruntime"]["place"] == ""
    assert [facts["tried"] for facts in report["devices"]] == [False] * len(DEVICES)
