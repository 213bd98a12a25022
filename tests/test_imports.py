"""What is loaded when: the runtime never needs PyTorch, and help needs next to nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
AUTHORING = ("train", "export", "benchmarks")


def modules():
    """Every module of the package by name, with its file; the clone's folders lie inside the package once installed."""
    for top in ("salgan_edge", *AUTHORING):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            inside = parts if top == "salgan_edge" else ("salgan_edge", *parts)
            yield ".".join(inside).removesuffix(".__init__"), path


def room(module):
    """The part of the package that a module lies in, its own name for those that lie in none."""
    return [*module.split("."), ""][1]


def imported(path):
    """Modules and names of this package that a file imports when it runs, lazily or not: (module, name)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("salgan_edge"):
            if id(node) not in for_types:
                yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import) and id(node) not in for_types:
            yield from ((alias.name, "") for alias in node.names if alias.name.startswith("salgan_edge"))


# What a room may not use, over and above that nobody but the commands uses the commands.
FORBIDDEN = {
    "train": {"export", "benchmarks"},
    "export": {"benchmarks"},
    "gaze": {"evaluate", "predictor", "render"},
    "evaluate": {"doctor", "verify"},
    "errors": {"files", "images", "contract"},
}


def test_imports_point_one_way():
    """The runtime uses neither training, export nor benchmarks; of the rooms below, none uses one above."""
    known = {name for name, _ in modules()}
    wrong = []
    for name, path in modules():
        mine = room(name)
        for module, part in imported(path):
            other = room(f"{module}.{part}" if f"{module}.{part}" in known else module)
            if mine == other or mine in ("", "__main__"):
                continue
            upwards = other in AUTHORING and mine not in ("cli", *AUTHORING)
            if upwards or (other == "cli") or other in FORBIDDEN.get(mine, ()):
                wrong.append(f"{name} imports {module}")
    assert not wrong


def test_private_names_stay_in_their_module():
    tools = [(f"tools.{path.stem}", path) for path in sorted((ROOT / "tools").glob("*.py"))]
    wrong = [
        f"{name} takes {part} of {module}"
        for name, path in [*modules(), *tools]
        for module, part in imported(path)
        if any(word.startswith("_") and not word.startswith("__") for word in (*module.split("."), part))
        and module != "salgan_edge._version"
    ]
    assert not wrong


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_runtime_modules_load_no_torch():
    """All of them, as they are found; training, export and benchmarks are installed in folders of their own."""
    names = [name for name, _ in modules() if room(name) not in AUTHORING]
    assert len(names) > 80
    loaded = loaded_after(
        "import importlib\n"
        + "\n".join(f"importlib.import_module({n!r})" for n in names if not n.endswith("__main__"))
    )
    assert "salgan_edge" in loaded
    assert not {"torch", "transformers", "onnx"} & loaded


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
