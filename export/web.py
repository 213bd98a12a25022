"""Runs a bundle's graphs in onnxruntime-web and compares: what a browser will compute."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from salgan_edge import contract, samples
from salgan_edge.devices import Execution
from salgan_edge.errors import ExportError, MissingDependencyError, ParityError
from salgan_edge.resample import fit
from salgan_edge.session import GraphSession
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from salgan_edge.bundle import Bundle

__all__ = ["WEB_TOLERANCE", "WEB_VERSION", "Comparison", "check_web", "install_web_runtime"]

WEB_VERSION = "1.30.0"
"""Version of onnxruntime-web that graphs are checked with. It is fixed so that a bundle that passed
passes again; a newer one runs the same operators."""

WEB_TOLERANCE = 1e-3
"""Largest absolute difference of a saliency value, 0..1, and of an entry of a text vector."""

_NODE = 18
_SECONDS = 600
_RUN = Path(__file__).with_name("web_run.mjs")
_PROMPTS = (
    "a spoon",
    "a cat",
    "the flag in the background, to the left of the astronaut's head",
    "a cup of coffee " * 40,  # more than 77 tokens
)


@dataclass(frozen=True)
class Comparison:
    """One run of a graph in both runtimes."""

    name: str
    difference: float
    """Largest absolute difference; infinite where a value is not finite or the shape is another."""


@dataclass(frozen=True)
class _Case:
    name: str
    graph: str
    output: str
    inputs: dict[str, npt.NDArray[Any]]


def check_web(
    bundle: Bundle, *, cache: Path | None = None, report: Callable[[str], None] = lambda _line: None
) -> list[Comparison]:
    """Run both graphs in onnxruntime-web (WebAssembly, under Node) and in onnxruntime.

    Short, long and 77-token prompts, free viewing, one photo and two, landscape and portrait. A bundle
    without a text encoder has its generator checked with random text vectors.

    Args:
        bundle: what to check.
        cache: folder that keeps onnxruntime-web between runs; the user's cache folder where None.
        report: called with a line for each step.

    Returns:
        The comparisons, all within `WEB_TOLERANCE`.

    Raises:
        MissingDependencyError: Node or npm is not installed.
        ExportError: onnxruntime-web could not be installed, or does not run a graph; the message
            names the operator.
        ParityError: a result differs by more than `WEB_TOLERANCE`; all figures are named.
    """
    packages = install_web_runtime(cache, report=report)
    graphs = {
        name: bundle.read(name)
        for name in (contract.TEXT_ENCODER_FILE, contract.GENERATOR_FILE)
        if bundle.has(name)
    }
    cases = _cases(bundle, graphs)
    report(f"running {len(graphs)} graphs in onnxruntime-web {WEB_VERSION}")
    found = _run_in_node(packages, graphs, cases)
    expected = _run_here(graphs, cases)
    comparisons = [
        Comparison(case.name, _difference(a, b)) for case, a, b in zip(cases, found, expected, strict=True)
    ]
    missed = [c for c in comparisons if not c.difference <= WEB_TOLERANCE]
    if missed:
        figures = "; ".join(f"{c.name}: {c.difference:.2e}" for c in missed)
        raise ParityError(
            f"onnxruntime-web {WEB_VERSION} and onnxruntime disagree in {len(missed)} of {len(cases)} cases "
            f"(at most {WEB_TOLERANCE:.0e} is allowed): {figures}"
        )
    return comparisons


def install_web_runtime(
    cache: Path | None = None, *, report: Callable[[str], None] = lambda _line: None
) -> Path:
    """Folder whose ``node_modules`` holds onnxruntime-web; npm installs it there once.

    Args:
        cache: folder that keeps it; the user's cache folder where None.
        report: called with a line before npm is run.

    Raises:
        MissingDependencyError: Node is not installed or too old, or npm is not installed.
        ExportError: npm failed, or the folder cannot be written.
    """
    _node()
    place = (cache or _user_cache()) / f"onnxruntime-web-{WEB_VERSION}"
    if (place / "node_modules" / "onnxruntime-web" / "package.json").is_file():
        return place
    npm = shutil.which("npm")
    if npm is None:
        raise MissingDependencyError(
            f"npm is not installed: it is needed once to fetch onnxruntime-web {WEB_VERSION}; install Node with npm"
        )
    report(f"fetching onnxruntime-web {WEB_VERSION} with npm into {place}")
    staging: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        # Without a package.json npm would look for one in the folders above.
        (staging / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = _run([*command, f"onnxruntime-web@{WEB_VERSION}"], staging)
        if done.returncode != 0:
            raise ExportError(
                f"npm could not install onnxruntime-web {WEB_VERSION}: {_npm_reason(done.stderr)}; "
                f"check the network and npm's settings, or put node_modules with it into {place}"
            )
        if place.is_dir():  # half of an installation, or another process was faster
            shutil.rmtree(place)
        staging.rename(place)
    except OSError as error:
        raise ExportError(
            f"cannot write {place}: {error.strerror or error}; set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return place


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        raise MissingDependencyError(
            f"node is not installed: the web target is checked in Node {_NODE} or newer; install it, or leave out --target web"
        )
    version = _run([node, "--version"], None).stdout.strip()
    major = re.match(r"v(\d+)\.", version)
    if major is None or int(major[1]) < _NODE:
        raise MissingDependencyError(f"node is {version or 'broken'}: Node {_NODE} or newer was expected")
    return node


def _user_cache() -> Path:
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "salgan-edge"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "salgan-edge"
    folder = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / folder / "salgan-edge"


def _run(command: Sequence[str], folder: Path | None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - node and npm with arguments of ours
            command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=_SECONDS
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"{Path(command[0]).name} did not end within {_SECONDS} s") from error


def _npm_reason(output: str) -> str:
    """What npm says went wrong, without its codes and paths of logs."""
    lines = [re.sub(r"^npm (error|ERR!)\s*", "", line).strip() for line in output.splitlines()]
    told = [
        line
        for line in lines
        if line and not line.startswith(("code ", "errno ", "syscall ", "A complete log"))
    ]
    return told[0] if told else "it gave no reason"


def _cases(bundle: Bundle, graphs: Mapping[str, bytes]) -> list[_Case]:
    cases = []
    dimension = bundle.manifest.embedding_dimension
    if contract.TEXT_ENCODER_FILE in graphs:
        ids = ClipTokenizer(bundle.read(contract.TOKENIZER_FILE)).batch(_PROMPTS)
        for name, rows in (("1 prompt", ids[:1]), (f"{len(ids)} prompts, one of 77 tokens", ids)):
            cases.append(
                _Case(
                    f"text encoder, {name}",
                    contract.TEXT_ENCODER_FILE,
                    contract.TEXT_EMBEDDING,
                    {contract.INPUT_IDS: rows},
                )
            )
        text = _run_here(graphs, cases[-1:])[0]
    else:
        text = np.random.default_rng(0).normal(size=(len(_PROMPTS), dimension)).astype(np.float32)
        text /= np.linalg.norm(text, axis=1, keepdims=True)
    # The first is free viewing.
    vectors = np.concatenate([np.zeros((1, dimension), np.float32), text])
    coffee, astronaut = samples.load("coffee"), samples.load("astronaut")
    for name, image, chosen in (
        ("1 photo, 1 prompt, landscape", coffee[None, :300, :400], vectors[None, 1:2]),
        ("1 photo, 4 prompts, portrait", coffee[None, :400, :300], vectors[None, :4]),
        ("1 photo, 1 prompt, fitted", coffee[None, :, :533], vectors[None, 1:2]),
        ("2 photos, 2 prompts", np.stack([coffee[:256, :256], astronaut[:256, :256]]), vectors[:4].reshape(2, 2, -1)),
    ):  # fmt: skip
        # As `SaliencyPredictor.predict` gives photos to the graph, where their size lets it.
        fitted = np.stack([fit(photo, *bundle.manifest.input_size) for photo in image])
        inputs = {contract.IMAGE: fitted, contract.TEXT_EMBEDDING: chosen}
        cases.append(_Case(f"generator, {name}", contract.GENERATOR_FILE, contract.SALIENCY, inputs))
    return cases


def _run_here(graphs: Mapping[str, bytes], cases: Sequence[_Case]) -> list[npt.NDArray[np.float32]]:
    sessions = {
        name: GraphSession(graphs[name], Execution("cpu"), name=name) for name in {c.graph for c in cases}
    }
    return [sessions[case.graph].run(case.output, case.inputs) for case in cases]


def _run_in_node(
    packages: Path, graphs: Mapping[str, bytes], cases: Sequence[_Case]
) -> list[npt.NDArray[np.float32]]:
    """The outputs as onnxruntime-web computes them."""
    with tempfile.TemporaryDirectory(prefix="salgan-edge-web-") as name:
        work = Path(name)
        for graph, content in graphs.items():
            (work / graph).write_bytes(content)
        described = []
        for number, case in enumerate(cases):
            inputs = {}
            for key, array in case.inputs.items():
                file = f"{number}-{key}.bin"
                (work / file).write_bytes(np.ascontiguousarray(array).tobytes())
                inputs[key] = {"file": file, "type": array.dtype.name, "dims": array.shape}
            described.append(
                {"graph": case.graph, "output": case.output, "inputs": inputs, "result": f"{number}.bin"}
            )
        (work / "cases.json").write_text(json.dumps(described), encoding="utf-8")
        done = _run([_node(), str(_RUN), str(packages.resolve()), str(work)], work)
        answer_file = work / "answer.json"
        if done.returncode != 0 or not answer_file.is_file():
            lines = [line for line in done.stderr.splitlines() if "Error" in line] or ["it gave no reason"]
            raise ExportError(
                f"onnxruntime-web {WEB_VERSION} could not be run in Node: {lines[0].strip()}; "
                f"remove {packages} to fetch it again"
            )
        answer = json.loads(answer_file.read_text(encoding="utf-8"))
        if "error" in answer:
            raise ExportError(_refusal(answer["graph"], answer["error"]))
        return [
            np.fromfile(work / f"{number}.bin", np.float32).reshape(dims)
            for number, dims in enumerate(answer["dims"])
        ]


def _refusal(graph: str, message: str) -> str:
    reason = (message.strip().splitlines() or ["it gave no reason"])[0]
    operator = re.search(
        r"(?:implementation for|registered for|is not a registered function/op: ?)\s*([\w.:]+)", reason
    )
    told = f" (operator {operator[1]})" if operator else ""
    return f"onnxruntime-web {WEB_VERSION} does not run {graph}{told}: {reason}"


def _difference(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    if found.shape != expected.shape:
        return float("inf")
    difference = float(np.abs(found - expected).max())
    return difference if np.isfinite(difference) else float("inf")
