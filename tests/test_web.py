"""The graphs in onnxruntime-web, in Node, and what is said when that does not work."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from salgan_edge.export import web  # noqa: E402

from salgan_edge import contract  # noqa: E402
from salgan_edge.bundle import Bundle, default_bundle  # noqa: E402
from salgan_edge.errors import ExportError, MissingDependencyError, ParityError  # noqa: E402

posix = pytest.mark.skipif(os.name != "posix", reason="the stand-ins for node and npm are shell scripts")


@pytest.fixture(scope="session")
def packages():
    """onnxruntime-web, which npm fetches once into the user's cache folder."""
    try:
        return web.install_web_runtime()
    except (MissingDependencyError, ExportError) as error:
        pytest.skip(f"onnxruntime-web is not available: {error}")


@pytest.fixture(scope="session")
def bundle():
    return Bundle.open(default_bundle())


def program(folder, name, script):
    """A stand-in for a program, in a folder that becomes the whole PATH."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


# With onnxruntime-web


@pytest.mark.usefixtures("packages")
def test_default_bundle_in_the_browser_runtime(bundle):
    lines = []
    comparisons = web.check_web(bundle, report=lines.append)
    assert sum(c.name.startswith("text encoder") for c in comparisons) == 2
    assert sum(c.name.startswith("generator") for c in comparisons) == 4
    # Another build of the same kernels: far within the limit, and not a copy of the same numbers.
    assert all(0 <= c.difference < 1e-4 for c in comparisons)
    assert any(c.difference > 0 for c in comparisons)
    assert lines == [f"running 2 graphs in onnxruntime-web {web.WEB_VERSION}"]
    # The weights that are stored in few bits and cast were among what ran.
    stored = {
        tensor.data_type
        for name in (contract.TEXT_ENCODER_FILE, contract.GENERATOR_FILE)
        for tensor in onnx.load_model_from_string(bundle.read(name)).graph.initializer
    }
    assert {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT16} <= stored


@pytest.mark.usefixtures("packages")
def test_a_difference_is_an_error(bundle, monkeypatch):
    run = web._run_here

    def changed(graphs, cases):
        results = run(graphs, cases)
        if len(cases) > 1:
            results[-1] = results[-1] + np.float32(2e-3)
            results[-2] = results[-2] * np.float32("nan")
            results[-3] = results[-3][..., :-1]
        return results

    monkeypatch.setattr(web, "_run_here", changed)
    with pytest.raises(ParityError) as error:
        web.check_web(bundle)
    assert "disagree in 3 of 6 cases (at most 1e-03 is allowed)" in str(error.value)
    assert "1 photo, 4 prompts, portrait: inf; generator, 1 photo, 1 prompt, fitted: inf" in str(error.value)
    assert "2 photos, 2 prompts: 2.00e-03" in str(error.value)


def graph(operator, kind):
    helper = onnx.helper
    made = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], name="n")], "g",
        [helper.make_tensor_value_info("x", kind, [2])], [helper.make_tensor_value_info("y", kind, [2])],
    )  # fmt: skip
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()


def test_an_operator_that_is_missing_is_named(packages):
    values = np.zeros(2, np.float32)
    case = web._Case("n", "generator.onnx", "y", {"x": values})
    with pytest.raises(
        ExportError, match=r"does not run generator\.onnx \(operator NoSuchOperator\): .*NoSuchOperator"
    ) as error:
        web._run_in_node(packages, {"generator.onnx": graph("NoSuchOperator", 1)}, [case])
    assert "\n" not in str(error.value)
    (result,) = web._run_in_node(packages, {"generator.onnx": graph("Cos", 1)}, [case])
    assert np.array_equal(result, np.ones(2, np.float32))


# Without it


def test_no_node(programs):
    with pytest.raises(MissingDependencyError, match=r"node is not installed: .* leave out --target web"):
        web.install_web_runtime(programs)


@posix
@pytest.mark.parametrize(("version", "said"), [("v16.20.2", r"node is v16\.20\.2"), ("", "node is broken")])
def test_old_node(programs, version, said):
    program(programs, "node", f"echo {version}")
    with pytest.raises(MissingDependencyError, match=f"{said}: Node 18 or newer was expected"):
        web.install_web_runtime(programs)


@posix
def test_no_npm(programs, tmp_path):
    program(programs, "node", "echo v20.1.0")
    with pytest.raises(MissingDependencyError, match="npm is not installed"):
        web.install_web_runtime(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@posix
def test_npm_fails(programs, tmp_path):
    program(programs, "node", "echo v20.1.0")
    program(
        programs,
        "npm",
        "echo 'npm error code ENOTFOUND' >&2; echo 'npm error network request failed' >&2;"
        " echo 'npm error A complete log of this run' >&2; exit 1",
    )
    with pytest.raises(
        ExportError, match=r"could not install onnxruntime-web .*: network request failed; check"
    ):
        web.install_web_runtime(tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@posix
def test_installation_is_kept(programs, tmp_path, monkeypatch):
    """npm runs once, without scripts of packages, and half an installation is replaced."""
    tools = {tool: shutil.which(tool, path=os.defpath) for tool in ("mkdir", "echo")}
    program(programs, "node", "echo v20.1.0")
    program(
        programs,
        "npm",
        f'echo "$@" >> {tmp_path}/calls; {tools["mkdir"]} -p node_modules/onnxruntime-web;'
        " echo '{}' > node_modules/onnxruntime-web/package.json",
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "cache" / "salgan-edge" / f"onnxruntime-web-{web.WEB_VERSION}"
    (place / "node_modules").mkdir(parents=True)
    lines = []
    for _ in range(2):
        assert web.install_web_runtime(report=lines.append) == place
    assert lines == [f"fetching onnxruntime-web {web.WEB_VERSION} with npm into {place}"]
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert "--ignore-scripts" in call
    assert call.endswith(f"onnxruntime-web@{web.WEB_VERSION}")
    assert [path.name for path in place.parent.iterdir()] == [place.name]


@posix
def test_node_fails(programs, tmp_path):
    program(
        programs, "node", '[ "$1" = --version ] && echo v20.1.0 && exit; echo "Error: no module" >&2; exit 1'
    )
    case = web._Case("n", "generator.onnx", "y", {"x": np.zeros(2, np.float32)})
    with pytest.raises(ExportError, match=r"could not be run in Node: Error: no module; remove .*packages"):
        web._run_in_node(tmp_path / "packages", {"generator.onnx": b"x"}, [case])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_cache_cannot_be_written(programs, tmp_path):
    program(programs, "node", "echo v20.1.0")
    program(programs, "npm", "exit 0")
    tmp_path.chmod(0o500)
    with pytest.raises(ExportError, match=r"cannot write .*: Permission denied; set XDG_CACHE_HOME"):
        web.install_web_runtime(tmp_path / "cache")
    tmp_path.chmod(0o700)


def test_script_is_beside_the_module():
    assert web._RUN.is_file()
    assert web._RUN.parent == Path(web.__file__).parent


# The command


def test_command(tmp_path, monkeypatch, run):
    """Node is asked for before the export begins; a difference is an error of the command."""
    pytest.importorskip("torch")
    from salgan_edge.export import write

    exported = []

    def export_that_is_default(*_arguments, prove, **_options):
        """As the real one, but for the exporting: what proves the bundle is called before it is published."""
        exported.append(1)
        bundle = Bundle.open(default_bundle())
        prove(bundle)
        return bundle

    monkeypatch.setattr(write, "export_bundle", export_that_is_default)
    monkeypatch.setattr(web, "install_web_runtime", lambda **_k: tmp_path)
    monkeypatch.setattr(web, "check_web", lambda *_a, **_k: [web.Comparison("generator, 1", 2e-6)])
    code, _, errors = run("export", "-o", "b", "--target", "web")
    assert code == 0
    passed = "1 comparisons passed; largest difference 2.0e-06 of 1e-03"
    assert f"onnxruntime-web {web.WEB_VERSION}: {passed}" in errors

    def absent(**_options):
        raise MissingDependencyError("node is not installed: install it")

    monkeypatch.setattr(web, "install_web_runtime", absent)
    code, _, errors = run("export", "-o", "b", "--target", "web")
    assert (code, errors) == (1, "error: node is not installed: install it\n")
    assert exported == [1]
