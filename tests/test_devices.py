"""Devices: what is asked for, what is there, and what is said where the two differ."""

from __future__ import annotations

import ctypes
import errno
import importlib.metadata
import itertools
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from salgan_edge import SaliencyPredictor, contract, cpus, devices, samples, session
from salgan_edge.bundle import default_bundle
from salgan_edge.console import show_log
from salgan_edge.devices import (
    DEVICES,
    Execution,
    cache_folder,
    installed_packages,
    parse_options,
    repair,
)
from salgan_edge.doctor.devices import TINY_GRAPH
from salgan_edge.errors import BundleFormatError, DeviceError, MissingDependencyError
from salgan_edge.metrics import cc
from salgan_edge.session import BoundSession, DeviceWarning, GraphSession
from salgan_edge.verify.golden import tolerance_for

GENERATOR = default_bundle() / contract.GENERATOR_FILE
PHOTO = samples.path("coffee")


def inputs(height=9, width=8, prompts=1, seed=0):
    """Random inputs of the generator."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(1, prompts, 512))
    return {
        contract.IMAGE: random.integers(0, 256, (1, height, width, 3)).astype(np.uint8),
        contract.TEXT_EMBEDDING: (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(
            np.float32
        ),
    }


# What is asked for


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "tpu"}, "device 'tpu' is unknown: auto, cpu, cuda"),
        ({"threads": 0}, "threads is 0: 1 or more"),
        ({"threads": -2}, "threads is -2: 1 or more"),
        (
            {"options": {"device_id": "1"}},
            r"\(device_id\) fit no device 'auto': name the device too, such as cuda",
        ),
        ({"device": "cpu", "options": {"x": "1"}}, "fit no device 'cpu'"),
        ({"device": "cuda", "options": {"device_id": "x"}}, "device_id is 'x': the number of a device"),
        ({"device": "tensorrt", "options": {"device_id": "-1"}}, "device_id is '-1': the number"),
        ({"device": "directml", "options": {"device_id": ""}}, "device_id is '': the number"),
        ({"device": "cuda", "options": {"device_id": "\u00b2"}}, "the number"),
    ],
)
def test_execution_that_does_not_fit(arguments, message):
    with pytest.raises(DeviceError, match=message):
        Execution(**arguments)


def test_execution():
    assert Execution().options == {}
    assert Execution("cuda", options={"device_id": "1"}).options == {"device_id": "1"}
    # OpenVINO's are no numbers.
    assert Execution("openvino", options={"device_id": "GPU.1"}).threads is None


def test_parse_options():
    assert parse_options([]) == {}
    assert parse_options(["a=1", " b = x=y ", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for words, message in (
        (["a"], "'a' is no option of a provider: KEY=VALUE was expected"),
        (["=1"], "'=1' is no option"),
        ([" =1"], "is no option"),
        (["a=1", "a =2"], "the option a of the provider was given twice"),
    ):
        with pytest.raises(DeviceError, match=message):
            parse_options(words)


COMMANDS = [
    ["predict", PHOTO, "a spoon"],
    ["verify"],
    ["bake", "a spoon"],
    ["evaluate", "--data", "DATA", "--baseline", "none", "--limit", 1],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_options_of_every_command(command, run, tmp_path, gaze_data):
    command = [gaze_data / "sjtu_tis" if word == "DATA" else word for word in command]
    for options, message in (
        (["--device", "tpu"], "'tpu' is not one of"),
        (["--threads", 0], "--threads"),
        (["--device", "cuda", "--provider-option", "device_id"], "'device_id' is no option of a provider"),
        (
            ["--device", "cuda", "--provider-option", "device_id=x"],
            "device_id is 'x': the number of a device",
        ),
        (["--device", "cpu", "--provider-option", "device_id=1"], "fit no device 'cpu'"),
    ):
        code, out, err = run(*command, *options)
        assert (code, out) == (2, "")
        assert sum(message in line for line in err.splitlines()) == 1
        assert "Traceback" not in err
    wrong = "coreml" if sys.platform == "win32" else "directml"
    for options in ([], ["--strict"], ["--provider-option", "device_id=1", "--strict"]):
        code, out, err = run(*command, "--device", wrong, *options)
        assert (code, out) == (1, "")
        assert err.startswith(f"error: {wrong} is only there on ")
        assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    "CUDAExecutionProvider" in pytest.importorskip("onnxruntime").get_available_providers(),
    reason="this onnxruntime has CUDA; the GPU tests cover it",
)
def test_strict_refuses_an_auto_without_cuda(run):
    code, out, err = run("predict", PHOTO, "a spoon", "--strict")
    assert (code, out) == (1, "")
    assert err.startswith("error: no CUDA in the installed onnxruntime (onnxruntime")
    assert "onnxruntime-gpu[cuda,cudnn]" in err
    assert len(err.splitlines()) == 1
    # Where the CPU is what was asked for, nothing falls back to it.
    code, out, err = run("predict", PHOTO, "a spoon", "--strict", "--device", "cpu")
    assert (code, err) == (0, "")


# CPUs


@pytest.mark.parametrize(("quota", "expected"), [(None, 3), (1.5, 2), (0.2, 1), (4.0, 3)])
def test_quota_and_affinity(quota, expected, monkeypatch):
    """The quota's own values are tested in test_doctor.py."""
    monkeypatch.setattr(cpus, "cpu_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(3)), raising=False)
    assert cpus.allowed_cpus() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_is_kept():
    """Of the process, not of the machine, whose CPUs onnxruntime would take."""
    script = (
        "import os\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from salgan_edge.cpus import allowed_cpus\n"
        "print(allowed_cpus())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize(("threads", "spinning"), [(1, True), (3, False), (None, True)])
def test_threads_and_spinning_reach_onnxruntime(threads, spinning, any_machine):
    graph = GraphSession(GENERATOR, Execution("cpu", threads, spinning=spinning))
    assert any_machine.options.intra_op_num_threads == (threads or cpus.allowed_cpus())
    if spinning:
        with pytest.raises(RuntimeError, match="allow_spinning"):
            any_machine.options.get_session_config_entry("session.intra_op.allow_spinning")
    else:
        assert any_machine.options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert graph.placement is None
    expected = GraphSession(GENERATOR, Execution("cpu", 1)).run(contract.SALIENCY, inputs())
    assert np.abs(graph.run(contract.SALIENCY, inputs()) - expected).max() < 1e-4


# What is installed


def install(folder, name, version="1.0", record=("onnxruntime/__init__.py,,",), metadata=None):
    """A folder like pip's of an installed package."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    if metadata is None:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    if metadata:
        (info / "METADATA").write_bytes(metadata)
    if record is not None:
        (info / "RECORD").write_text("\n".join(record) + "\n")


def test_installed_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    assert installed_packages() == {}
    install(tmp_path / "first", "onnxruntime", "1.30.0")
    install(tmp_path / "first", "onnxruntime_gpu", "1.27.1")
    install(tmp_path / "first", "OnnxRuntime.OpenVINO", "1.24", record=None)
    install(tmp_path / "first", "onnxruntime-directml", record=["../x.py,,", "onnxruntime/capi/x.dll,,"])
    install(tmp_path / "first", "onnx", "1.18", record=["onnx/__init__.py,,"])
    # They stand beside it, and overwrite nothing.
    for beside in ("onnxruntime-extensions", "onnxruntime_genai", "onnxruntime-tools"):
        install(tmp_path / "first", beside, record=[f"{beside.replace('-', '_')}/__init__.py,,"])
    # Not the one that is imported.
    install(tmp_path / "second", "onnxruntime", "1.20.0")
    assert installed_packages() == {
        "onnxruntime": "1.30.0",
        "onnxruntime-directml": "1.0",
        "onnxruntime-gpu": "1.27.1",
        "onnxruntime-openvino": "1.24",
    }


@pytest.mark.parametrize("metadata", [b"", b"Metadata-Version: 2.1\n", b"\xff\xfe\x00Name: \xff", b"Name:\n"])
def test_damaged_packages_are_passed_over(metadata, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    install(tmp_path, "onnxruntime-gpu", "1.27.1")
    install(tmp_path, "onnxruntime", "1.20", metadata=metadata)
    assert installed_packages() == {"onnxruntime-gpu": "1.27.1"}


def test_package_without_a_version(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    install(tmp_path, "onnxruntime", metadata=b"Name: onnxruntime\n")
    assert installed_packages() == {"onnxruntime": "of unknown version"}


PACKAGES = sorted({kind.package for kind in DEVICES.values()})


@pytest.mark.parametrize("extra", ["cpu", "gpu", "openvino", "directml"])
@pytest.mark.parametrize(
    "present", [set(c) for n in range(4) for c in itertools.combinations(PACKAGES, n)], ids=sorted
)
def test_repair_leaves_one_whole_package(present, extra, monkeypatch):
    """The printed commands, carried out on packages that share their files."""
    monkeypatch.setattr(devices, "installed_packages", lambda: dict.fromkeys(sorted(present), "1.0"))
    left, whole = set(present), len(present) < 2
    for command in repair(extra).split(" && "):
        match shlex.split(command):
            case ["pip", "uninstall", "-y", *names]:
                # Otherwise pip says that it skips it.
                assert names
                assert set(names) <= left
                left -= set(names)
                whole = not left
            case ["pip", "install", requirement]:
                assert requirement == devices.REQUIREMENTS[extra]
                (wanted,) = {kind.package for kind in DEVICES.values() if kind.extra == extra}
                left.add(wanted)
            case other:
                pytest.fail(f"not expected: {other}")
    assert (left, whole) == ({wanted}, True)


def test_extras_are_those_of_the_project():
    import tomllib

    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    for kind in DEVICES.values():
        (requirement,) = project["optional-dependencies"][kind.extra]
        assert requirement.partition(">")[0].partition("[")[0] == kind.package


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders")
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XDG_CACHE_HOME": "/x"}, "/x/salgan-edge"),
        ({"XDG_CACHE_HOME": ""}, "~/.cache/salgan-edge"),
        ({}, "~/.cache/salgan-edge"),
        ({"SALGAN_EDGE_CACHE": "/mine", "XDG_CACHE_HOME": "/x"}, "/mine"),
    ],
)
def test_cache_folder(variables, expected, monkeypatch):
    for name in ("XDG_CACHE_HOME", "SALGAN_EDGE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected).expanduser()


# Why a provider's library does not load

GPU_EXTRA = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
OF_CUDA = f"is missing: it is CUDA's, {GPU_EXTRA}"
NOT_FOUND = "cannot open shared object file: No such file or directory"
ADVICE = {
    f"libcuda.so.1: {NOT_FOUND}": "libcuda.so.1 is missing: it comes with the NVIDIA driver, install that",
    f"libnvidia-ml.so.1: {NOT_FOUND}": "libnvidia-ml.so.1 is missing: it comes with the NVIDIA driver",
    f"libcudnn.so.9: {NOT_FOUND}": f"libcudnn.so.9 is missing: it is cuDNN's, {GPU_EXTRA}",
    "/opt/lib/libcudnn.so.9: cannot open shared object file: Permission denied": "libcudnn.so.9 is missing",
    **{
        f"{name}: {NOT_FOUND}": f"{name} {OF_CUDA}"
        for name in ("libcublasLt.so.13", "libcudart.so.13", "libnvrtc.so.13", "libnvJitLink.so.13")
    },
    f"libnvinfer.so.10: {NOT_FOUND}": "libnvinfer.so.10 is missing: it is TensorRT's, pip install 'tensorrt-cu13<11', or take --device cuda",
    f"libnvonnxparser.so.10: {NOT_FOUND}": "libnvonnxparser.so.10 is missing: it is TensorRT's",
    f"libtbb.so.12: {NOT_FOUND}": "libtbb.so.12 is missing",
    "": "unknown reason",
    "/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (by x.so)\nmore": "/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (by x.so)",
    "/a b/x.so: file too short": "/a b/x.so: file too short",
}  # fmt: skip


@pytest.mark.parametrize("message", ADVICE)
def test_advice_for_a_library_that_does_not_load(message, monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime")

    def load(*_, **__):
        raise OSError(message)

    place = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(devices, "find_spec", lambda _: place)
    monkeypatch.setattr(ctypes, "CDLL", load)
    (tmp_path / "capi").mkdir()
    prefix, suffix = {"win32": ("", ".dll"), "darwin": ("lib", ".dylib")}.get(sys.platform, ("lib", ".so"))
    (tmp_path / f"capi/{prefix}onnxruntime_providers_shared{suffix}").touch()
    said = devices.loading_problem("cuda")
    assert said.startswith(ADVICE[message])
    assert "\n" not in said


needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or sys.platform != "linux", reason="no C compiler, or not Linux"
)


def shared_object(path, *needed):
    """A shared library without content that needs others; its name is that of its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-shared", "-nostdlib", "-x", "c", os.devnull, "-x", "none", "-Wl,--no-as-needed"]
    subprocess.run(
        ["cc", *flags, *needed, f"-Wl,-soname,{path.name}", "-o", path], check=True, capture_output=True
    )
    return path


def problem_of(folder, device):
    """`loading_problem` in a process of its own, since libraries stay loaded."""
    (folder / "onnxruntime").mkdir(exist_ok=True)
    (folder / "onnxruntime/__init__.py").touch()
    script = (
        f"import sys\nsys.path.insert(0, {str(folder)!r})\nimport onnxruntime\n"
        f"from salgan_edge.devices import loading_problem\nprint(loading_problem({device!r}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@needs_compiler
@pytest.mark.parametrize(
    ("device", "library"),
    [("cuda", "libcublasLt.so.113"), ("tensorrt", "libnvinfer.so.110"), ("openvino", "libopenvino.so.1")],
)
def test_library_that_is_missing_is_named(device, library, tmp_path):
    capi = tmp_path / "onnxruntime/capi"
    missing = shared_object(tmp_path / library)
    shared_object(capi / "libonnxruntime_providers_shared.so")
    shared_object(capi / f"lib{DEVICES[device].library}.so", missing)
    missing.unlink()
    assert problem_of(tmp_path, device).startswith(f"{library} is missing")


@needs_compiler
def test_libraries_that_load(tmp_path):
    capi = tmp_path / "onnxruntime/capi"
    # Built into onnxruntime, as far as can be told.
    assert problem_of(tmp_path, "cuda") == "None"
    assert problem_of(tmp_path, "cpu") == "None"
    for stem in ("onnxruntime_providers_shared", DEVICES["cuda"].library):
        shared_object(capi / f"lib{stem}.so")
    assert problem_of(tmp_path, "cuda") == "None"
    (capi / "libonnxruntime_providers_shared.so").write_bytes(b"")
    assert "file too short" in problem_of(tmp_path, "cuda")


@needs_compiler
def test_tensorrt_is_found_in_its_pip_package(tmp_path):
    """No loader searches the package's folder."""
    library = shared_object(tmp_path / "tensorrt_libs/libnvinfer.so.10")
    (tmp_path / "tensorrt_libs/__init__.py").touch()
    shared_object(tmp_path / f"onnxruntime/capi/lib{DEVICES['tensorrt'].library}.so", library)
    assert problem_of(tmp_path, "tensorrt") == "None"
    library.unlink()
    assert problem_of(tmp_path, "tensorrt").startswith("libnvinfer.so.10 is missing")


def test_libraries_are_not_loaded_before_onnxruntime(monkeypatch):
    """They would miss what its import sets, and give a wrong reason."""
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    with pytest.raises(AssertionError, match="import onnxruntime first"):
        devices.loading_problem("cuda")


# onnxruntime itself


def test_onnxruntime_that_is_damaged(monkeypatch):
    """What is left when one of two packages was uninstalled, or a library of the system is too old."""
    found = {"onnxruntime": "1.30", "onnxruntime-gpu": "1.27"}
    monkeypatch.setattr(session, "installed_packages", lambda: found)
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())
    with pytest.raises(
        MissingDependencyError,
        match=r"\(onnxruntime 1\.30, onnxruntime-gpu 1\.27\) \(several overwrite each other\) cannot be used: "
        r"it has no InferenceSession; pip uninstall -y onnxruntime onnxruntime-gpu, then pip install onnxruntime,",
    ):
        GraphSession(GENERATOR)
    found.pop("onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        MissingDependencyError, match=r"\(onnxruntime-gpu 1\.27\) cannot be used: import of onnx"
    ):
        GraphSession(GENERATOR)
    found.clear()
    with pytest.raises(MissingDependencyError, match=r"is not installed: pip install onnxruntime,"):
        GraphSession(GENERATOR)


def test_provider_that_is_not_in_the_package(monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for found, message in (
        ({}, r"\(none\) has no Open"),
        (
            {"onnxruntime": "1.30"},
            r"\(onnxruntime 1\.30\) has no OpenVINOExecutionProvider: pip uninstall -y onnx",
        ),
        (
            {"onnxruntime": "1", "onnxruntime-gpu": "2"},
            r"onnxruntime-gpu 2\) \(several overwrite each other\)",
        ),
    ):
        for module in (session, devices):
            monkeypatch.setattr(module, "installed_packages", lambda found=found: found)
        with pytest.raises(DeviceError, match=message) as raised:
            GraphSession(GENERATOR, Execution("openvino"))
        assert "pip install onnxruntime-openvino; or use --device cpu" in str(raised.value)


# Providers and their options


class AnyMachine:
    """An onnxruntime with every provider, which computes on the CPU and says of operators what it is told to say."""

    def __init__(self, monkeypatch):
        import onnxruntime

        self.asked = []
        """Providers that each session was made with."""
        self.operators = {}
        """Types of the operators on each provider; the preferred one has a convolution where nothing is said."""
        self.options = None
        """Of the last session."""
        self.broken = ""
        """What a run raises."""
        machine, real = self, onnxruntime.InferenceSession

        class Session(real):
            def __init__(self, content, options, providers, **rest):
                if providers != ["CPUExecutionProvider"]:
                    machine.asked.append(providers)
                    machine.options = options
                super().__init__(content, options, ["CPUExecutionProvider"], **rest)

            def get_providers(self):
                return [name for name, _ in machine.asked[-1]]

            def get_provider_graph_assignment_info(self):
                operators = machine.operators or {machine.asked[-1][0][0]: ["Conv"]}
                return [
                    SimpleNamespace(ep_name=name, get_nodes=lambda types=types: [SimpleNamespace(op_type=t) for t in types])
                    for name, types in operators.items()
                ]  # fmt: skip

            def run(self, *arguments):
                if machine.broken:
                    raise RuntimeError(machine.broken)
                return super().run(*arguments)

        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        listed = [kind.provider for kind in DEVICES.values()]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
        monkeypatch.setattr(session, "loading_problem", lambda _: None)

    def providers(self, device, graph=TINY_GRAPH, **values):
        """What onnxruntime is asked for in the end."""
        GraphSession(graph, Execution(device, **values), name="generator.onnx")
        return self.asked[-1]


@pytest.fixture
def any_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("SALGAN_EDGE_CACHE", str(tmp_path / "cache"))
    return AnyMachine(monkeypatch)


CPU = ("CPUExecutionProvider", {})


@pytest.mark.parametrize(
    ("device", "values", "expected"),
    [
        ("cpu", {}, []),
        ("cuda", {}, [("CUDAExecutionProvider", {})]),
        ("auto", {}, [("CUDAExecutionProvider", {})]),
        ("cuda", {"options": {"device_id": "1", "x": "y"}}, [("CUDAExecutionProvider", {"device_id": "1", "x": "y"})]),
        ("cuda", {"cuda_graph": True}, [("CUDAExecutionProvider", {"enable_cuda_graph": "1"})]),
        ("openvino", {"options": {"device_type": "GPU"}}, [("OpenVINOExecutionProvider", {"device_type": "GPU"})]),
        ("coreml", {}, [("CoreMLExecutionProvider", {})]),
        ("directml", {"options": {"device_id": "1"}}, [("DmlExecutionProvider", {"device_id": "1"})]),
        # Engines that are kept where the user says; the default folder is left alone.
        (
            "tensorrt", {"options": {"trt_engine_cache_path": "/mine", "device_id": "2"}},
            [("TensorrtExecutionProvider", {"trt_engine_cache_path": "/mine", "device_id": "2"}), ("CUDAExecutionProvider", {"device_id": "2"})],
        ),
    ],
)  # fmt: skip
def test_providers_of_each_device(device, values, expected, any_machine, tmp_path, notes):
    assert any_machine.providers(device, **values) == [*expected, CPU]
    assert (list(tmp_path.iterdir()), notes) == ([], [])


def test_a_graph_is_captured_only_where_all_runs_on_the_gpu(any_machine):
    any_machine.operators = {"CUDAExecutionProvider": ["Conv"], "CPUExecutionProvider": ["Resize"]}
    assert any_machine.providers("cuda", cuda_graph=True) == [("CUDAExecutionProvider", {}), CPU]
    # What computes shapes is left on the CPU on purpose.
    any_machine.operators["CPUExecutionProvider"] = ["Shape", "Gather"]
    assert any_machine.providers("cuda", cuda_graph=True)[0][1] == {"enable_cuda_graph": "1"}


@pytest.fixture
def notes():
    """Warnings that the package logs."""
    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    logger = logging.getLogger("salgan_edge.session")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def test_engine_cache_of_tensorrt(any_machine, monkeypatch, tmp_path, notes):
    packages, tensorrt = {"onnxruntime-gpu": "1.31.1"}, ["10.9"]
    monkeypatch.setattr(session, "installed_packages", lambda: packages)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: tensorrt[0])

    def folder(graph=TINY_GRAPH, **values):
        (_, options), (_, beside), _ = any_machine.providers("tensorrt", graph, **values)
        assert beside == {}
        assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1"
        assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"]
        assert options.get("trt_cuda_graph_enable") == ("1" if values else None)
        return Path(options["trt_engine_cache_path"])

    first = folder()
    assert first.is_dir()
    assert first.parent == tmp_path / "cache/tensorrt"
    (note,) = notes
    assert note.getMessage() == (
        f"TensorRT builds its engines for generator.onnx, once; this takes minutes (kept in {first})"
    )
    (first / "x.engine").touch()
    # A CUDA graph has the session made a second time; a file is the same graph as its content.
    (tmp_path / "g.onnx").write_bytes(TINY_GRAPH)
    assert folder(cuda_graph=True) == folder(tmp_path / "g.onnx") == first
    assert len(notes) == 1
    others = [folder(GENERATOR)]
    packages["onnxruntime-gpu"] = "1.32.0"
    others.append(folder())
    tensorrt[0] = "10.10"
    others.append(folder(cuda_graph=True))
    assert len({first, *others}) == 4
    assert len(notes) == 4


@pytest.mark.parametrize("place", ["file", "file/deeper", "/proc/1/nothing", "read-only"])
def test_engine_cache_that_cannot_be_written(place, any_machine, monkeypatch, tmp_path):
    """Said before the engine is built, not after; also where the folder is there but nothing can be written to it."""
    if place.startswith("/proc") and sys.platform != "linux":
        pytest.skip("no /proc")
    (tmp_path / "file").touch()
    monkeypatch.setenv("SALGAN_EDGE_CACHE", str(tmp_path / place))
    if place == "read-only":

        def refuse(**_):
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(
        DeviceError, match=r"cannot be kept in .*: .*; set SALGAN_EDGE_CACHE to a folder that can"
    ):
        any_machine.providers("tensorrt")


@pytest.mark.parametrize(
    ("device", "operators", "message"),
    [
        ("openvino", {"OpenVINOExecutionProvider": ["Conv"]}, ""),
        ("openvino", {"CPUExecutionProvider": ["Conv", "Conv", "Relu"]}, "2 Conv, 1 Relu on CPUExecutionProvider"),
        # CUDA is the same GPU.
        ("tensorrt", {"TensorrtExecutionProvider": ["Conv"], "CUDAExecutionProvider": ["Resize"]}, ""),
        ("cuda", {"CUDAExecutionProvider": ["Conv"], "CPUExecutionProvider": ["Shape", "Gather"]}, ""),
        ("cuda", {"TensorrtExecutionProvider": ["Conv"], "CUDAExecutionProvider": ["Resize"]}, "1 Conv on TensorrtExecution"),
    ],
)  # fmt: skip
def test_strict_names_the_operators(device, operators, message, any_machine):
    any_machine.operators = operators
    if not message:
        assert any_machine.providers(device, strict=True)
        return
    with pytest.raises(DeviceError, match=f"{device} does not run all of generator.onnx: {message}.*; leave"):
        any_machine.providers(device, strict=True)


def test_failure_on_a_device_is_one_of_the_device(any_machine):
    any_machine.broken = "/src/cuda_call.cc:100 bool Check(int) CUDA failure 2: out of memory\nmore"
    for device, message in (("openvino", "CUDA failure 2: out of memory"), ("cuda", ".*")):
        graph = GraphSession(GENERATOR, Execution(device), name="generator.onnx")
        with pytest.raises(
            DeviceError,
            match=rf"^{device} failed while running generator\.onnx: {message}; use --device cpu$",
        ):
            graph.run(contract.SALIENCY, inputs())
    # On the CPU, it can only be the caller's.
    graph = GraphSession(GENERATOR, Execution("cpu", 1), name="generator.onnx")
    with pytest.raises(RuntimeError, match="out of memory"):
        graph.run(contract.SALIENCY, inputs())


# Fixed buffers


@pytest.fixture
def plain():
    """The embedded generator as onnxruntime loads it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(GENERATOR, options, providers=["CPUExecutionProvider"])


def bound_to(plain, **options):
    import onnxruntime

    return BoundSession(onnxruntime, plain, "cpu", **options)


def test_buffers_change_nothing(plain):
    """Ten sets of shapes, more than are kept, each twice and with other content."""
    bound = bound_to(plain)
    shapes = [(9 + n % 5, 8 + n, 1 + n % 3) for n in range(10)]
    for seed in range(2):
        for shape in shapes:
            given = inputs(*shape, seed=seed)
            (expected,) = plain.run([contract.SALIENCY], given)
            found = bound.run(contract.SALIENCY, given)
            assert found.dtype == np.float32
            assert np.array_equal(found, expected)


def test_results_and_inputs_are_the_callers(plain):
    bound = bound_to(plain)
    first, second = inputs(seed=1), inputs(seed=2)
    before = {name: array.copy() for name, array in first.items()}
    found = bound.run(contract.SALIENCY, first)
    kept = found.copy()
    other = bound.run(contract.SALIENCY, second)
    assert not np.array_equal(other, kept)
    assert np.array_equal(found, kept)
    assert all(np.array_equal(first[name], before[name]) for name in first)


def test_buffers_take_any_layout(plain):
    given = inputs(20, 30, 2)
    turned = {**given, contract.IMAGE: given[contract.IMAGE][:, ::-1, ::2]}
    (expected,) = plain.run([contract.SALIENCY], {n: np.ascontiguousarray(a) for n, a in turned.items()})
    assert np.array_equal(bound_to(plain).run(contract.SALIENCY, turned), expected)


def test_each_set_of_shapes_has_a_graph_of_its_own(plain):
    """Numbers of CUDA graphs: none for the first run, which tells the shape; no more than eight in all."""
    seen = []

    class Recorder:
        io_binding = plain.io_binding

        def run_with_iobinding(self, binding, options):
            seen.append(options.get_run_config_entry("gpu_graph_id"))
            plain.run_with_iobinding(binding, options)

    bound = bound_to(Recorder(), capture=True)
    for width in (8, 9, 8, 9):
        bound.run(contract.SALIENCY, inputs(9, width))
    assert seen == ["-1", "1", "-1", "2", "1", "2"]
    seen.clear()
    for width in range(10, 20):
        bound.run(contract.SALIENCY, inputs(9, width))
    assert seen == [n for number in range(3, 9) for n in ("-1", str(number))] + ["-1"] * 8
    # Its graph is bound to buffers that are gone.
    seen.clear()
    bound.run(contract.SALIENCY, inputs(9, 8))
    assert seen == ["-1", "-1"]
    # The last used are the ones that are kept: 13 to 19, and 8. A further shape takes the place of 14, not of 13.
    for width, runs in ((13, 1), (50, 2), (13, 1), (14, 2)):
        seen.clear()
        bound.run(contract.SALIENCY, inputs(9, width))
        assert len(seen) == runs, width


# Falling back


@pytest.fixture(params=["does not load", "is not used"])
def no_gpu(request, monkeypatch, tmp_path_factory):
    """An onnxruntime that lists CUDA on a machine where it cannot work; why `auto` does not take it."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA; the GPU and wheel tests cover it")
    monkeypatch.setenv("SALGAN_EDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
    listed = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    if request.param == "is not used":
        return "cuda is not usable: onnxruntime takes CPUExecutionProvider in its place, --debug shows what it logs"
    monkeypatch.setattr(session, "loading_problem", lambda _: "libx is missing")
    return "libx is missing"


def test_auto_says_once_that_it_falls_back(no_gpu, run):
    """The text encoder follows the generator."""
    code, out, err = run("predict", PHOTO, "a spoon", "--json")
    assert code == 0
    assert err == (
        f"warning: CUDA is there but not usable, so this runs on the CPU: {no_gpu}; --device cpu silences this\n"
    )
    assert json.loads(out)["device"] == "cpu"
    assert run("predict", PHOTO, "a spoon", "--device", "cpu")[::2] == (0, "")


@pytest.mark.usefixtures("no_gpu")
def test_warning_points_at_the_calling_code():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        SaliencyPredictor.load().predict(np.zeros((40, 40, 3), np.uint8), "a dog")
        GraphSession(GENERATOR)
    assert [(warning.category, warning.filename) for warning in caught] == [(DeviceWarning, __file__)] * 2
    assert caught[1].lineno == caught[0].lineno + 1


def test_strict_does_not_fall_back(no_gpu, run):
    reason = no_gpu.removeprefix("cuda is not usable: ")
    for options in (["--strict"], ["--device", "cuda"], ["--device", "cuda", "--strict"]):
        code, out, err = run("predict", PHOTO, "a spoon", *options)
        assert (code, out) == (1, "")
        assert err == f"error: cuda is not usable: {reason}; or use --device cpu\n"
    code, _, err = run("verify", "--device", "tensorrt")
    assert code == 1
    assert err.splitlines()[-1].startswith("error: tensorrt is not usable: ")


@pytest.mark.usefixtures("no_gpu")
def test_options_are_named_where_a_device_is_not_usable(monkeypatch):
    monkeypatch.setattr(session, "loading_problem", lambda _: None)
    with pytest.raises(DeviceError, match=r"^cuda is not usable with device_id=7: onnxruntime takes CPU"):
        GraphSession(GENERATOR, Execution("cuda", options={"device_id": "7"}))


@pytest.mark.usefixtures("no_gpu")
def test_what_onnxruntime_prints_is_not_on_standard_output(run, monkeypatch):
    import onnxruntime

    said = "Failed to load libx\n"
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: sys.stdout.write(said), raising=False)
    try:
        code, out, err = run("predict", PHOTO, "a spoon", "--json")
        assert code == 0
        assert json.loads(out)["device"] == "cpu"
        assert "Failed to load" not in err
        code, out, err = run("--debug", "predict", PHOTO, "a spoon", "--json")
        assert json.loads(out)["device"] == "cpu"
        assert "debug: Failed to load libx" in err.splitlines()
    finally:
        show_log(debug=False)


@pytest.mark.parametrize("debug", [True, False])
def test_debug_shows_the_log_of_onnxruntime(debug, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from salgan_edge.cli import main; main()", *(["--debug"] if debug else []),
         "predict", str(PHOTO), "a spoon", "--device", "cpu"],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert done.stdout == "coffee_a-spoon.png\n"
    assert ("[I:onnxruntime:" in done.stderr) is debug
    assert debug or done.stderr == ""


def test_graph_that_no_device_loads_is_the_bundles_fault(monkeypatch):
    """The device is not blamed, so that `verify` goes on."""
    import onnxruntime

    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(session, "loading_problem", lambda _: None)
    for device in ("cpu", "cuda"):
        with pytest.raises(
            BundleFormatError, match=r"^onnxruntime cannot load g: .*protobuf.*; export the bundle"
        ):
            GraphSession(b"no graph", Execution(device), name="g")


@pytest.mark.usefixtures("no_gpu")
def test_sound_graph_that_a_device_refuses_is_the_devices_fault(monkeypatch):
    import onnxruntime

    real = onnxruntime.InferenceSession

    class Refusing(real):
        def __init__(self, content, options, providers, **rest):
            if providers != ["CPUExecutionProvider"]:
                raise RuntimeError("/src/x.cc:12 Create(int) out of memory\nand more")
            super().__init__(content, options, providers, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Refusing)
    monkeypatch.setattr(session, "loading_problem", lambda _: None)
    with pytest.raises(
        DeviceError, match=r"^cuda cannot run generator\.onnx: out of memory; or use --device cpu$"
    ):
        GraphSession(GENERATOR, Execution("cuda"))


# On a GPU. `pytest -m gpu` runs these alone.


@pytest.fixture(scope="module")
def on_gpu():
    """The embedded bundle on CUDA; skipped where that does not really work."""
    try:
        return SaliencyPredictor.load(device="cuda")
    except DeviceError as error:
        pytest.skip(str(error))


def assert_close(found, expected):
    allowed = tolerance_for("fp32", "cuda")
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < allowed.saliency
    rows = [array.reshape(-1, *array.shape[-2:]) for array in (found, expected)]
    assert min(cc(*pair) for pair in zip(*rows, strict=True)) > allowed.correlation


@pytest.mark.gpu
def test_cuda_computes_what_the_cpu_does(on_gpu, predictor):
    assert on_gpu.device == "cuda"
    for name in samples.NAMES:
        texts = ["a spoon", None, "a face"]
        for found, expected in zip(
            on_gpu.predict(samples.path(name), texts),
            predictor.predict(samples.path(name), texts),
            strict=True,
        ):
            assert_close(found.map, expected.map)


@pytest.mark.gpu
def test_auto_takes_cuda(on_gpu):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert SaliencyPredictor.load().device == on_gpu.device


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_cuda_with_fixed_buffers_and_graphs(on_gpu, cuda_graph):
    """Changing content of two shapes in turn, and results that later runs do not change."""
    on_cpu = GraphSession(GENERATOR, Execution("cpu"))
    graph = GraphSession(GENERATOR, Execution(on_gpu.device, cuda_graph=cuda_graph))
    assert graph._bound is not None
    if cuda_graph and not graph._bound._capture:
        pytest.skip(f"no graph is captured, not every operator is on the GPU: {graph.placement}")
    given = [inputs(*shape, seed=seed) for seed in range(3) for shape in ((60, 80, 1), (90, 40, 3))]
    for found, each in zip([graph.run(contract.SALIENCY, g) for g in given], given, strict=True):
        assert_close(found, on_cpu.run(contract.SALIENCY, each))


@pytest.mark.gpu
def test_placement_and_strict_on_cuda(on_gpu):
    placement = on_gpu.placement
    if placement is None:
        pytest.skip("this onnxruntime keeps no record")
    assert placement["CUDAExecutionProvider"] > 0.8 * sum(placement.values())
    if set(placement) == {"CUDAExecutionProvider"}:
        assert SaliencyPredictor.load(execution=Execution("auto", strict=True)).device == "cuda"
    else:
        with pytest.raises(
            DeviceError, match=r"cuda does not run all of generator\.onnx: .* on CPUExecution"
        ):
            SaliencyPredictor.load(execution=Execution("cuda", strict=True))


@pytest.mark.gpu
@pytest.mark.usefixtures("on_gpu")
def test_cuda_device_that_is_not_there(run):
    code, out, err = run("predict", PHOTO, "a spoon", "--device", "cuda", "--provider-option", "device_id=99")
    assert (code, out) == (1, "")
    assert err.startswith("error: cuda ")
    assert len(err.splitlines()) == 1


@pytest.mark.gpu
def test_threads_beside_cuda(on_gpu):
    graph = GraphSession(GENERATOR, Execution(on_gpu.device, 1, spinning=False))
    options = graph._session.get_session_options()
    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
