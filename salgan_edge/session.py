"""Execution of one graph: the only module on the way of a prediction that imports onnxruntime."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import sys
import tempfile
import threading
import warnings
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from salgan_edge.cpus import allowed_cpus
from salgan_edge.devices import (
    CPU_PROVIDER,
    DEVICES,
    SYSTEMS,
    Execution,
    cache_folder,
    installed_packages,
    loading_problem,
    repair,
)
from salgan_edge.errors import BundleFormatError, DeviceError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import numpy.typing as npt

__all__ = ["BoundSession", "DeviceWarning", "GraphSession", "NodeProviders", "load_onnxruntime"]

_ASSIGNMENT = "get_provider_graph_assignment_info"  # since onnxruntime 1.24
_KEPT_BUFFERS = 8
_NO_GRAPH = "-1"  # onnxruntime's number for a run that captures and replays none
# Where all else is on a GPU, onnxruntime leaves these on the CPU on purpose: they compute shapes.
_SHAPE_OPERATORS = frozenset({"Concat", "Gather", "Shape", "Size", "Squeeze", "Unsqueeze"})
_INFO, _WARNING, _FATAL = 1, 2, 4  # onnxruntime's levels of its log
_OR_CPU = "; or use --device cpu"

_log = logging.getLogger(__name__)


class DeviceWarning(UserWarning):
    """`auto` fell back to the CPU although CUDA seemed to be there."""


@dataclass(frozen=True)
class NodeProviders:
    """Which execution provider runs each operator of a graph.

    onnxruntime folds constants before it divides the operators among providers, and may fuse some
    afterwards, so there are fewer than in the file, and fewer in a profile than in a record.
    """

    source: str
    """Who says so: ``assignment`` (onnxruntime's own record) or ``profile`` (the profile of one run)."""
    nodes: dict[str, int]
    """Number of operators of each provider, the most first."""
    operators: dict[str, dict[str, int]]
    """For each provider, how many operators of each type."""


_DEFAULT = Execution()


class GraphSession:
    """A loaded graph on the device that it really runs on.

    Runs may come from several threads; on the CPU they run at once.

    Args:
        graph: ONNX file, or its content.
        execution: device, threads and all else that says how to run; an `Execution`.
        traced: note which execution provider runs which operator, for `node_providers`.
        name: what messages call the graph; the file's name where None.

    Warns:
        DeviceWarning: `auto` found CUDA listed but not working.

    Raises:
        MissingDependencyError: neither onnxruntime package is installed.
        DeviceError: a device asked for by name is not used, or not for every operator if `strict`.
        BundleFormatError: the file is no graph that onnxruntime reads.
    """

    def __init__(
        self,
        graph: Path | bytes,
        execution: Execution = _DEFAULT,
        *,
        traced: bool = False,
        name: str | None = None,
    ) -> None:
        self._name = name or (graph.name if isinstance(graph, Path) else "the graph")
        self._runtime = load_onnxruntime()
        self.device: str = _choose(self._runtime, execution)
        """Where the graph runs: a name of `salgan_edge.devices.DEVICES`."""
        on_cpu = self.device == "cpu"
        # Who runs what is always noted off the CPU, where single operators can fall back to it.
        self._records = hasattr(self._runtime.InferenceSession, _ASSIGNMENT)
        self._traced = traced or (not on_cpu and self._records)
        try:
            self._open(graph, execution)
        except DeviceError as error:
            if execution.device != "auto" or on_cpu or execution.strict:
                raise
            _warn_of_fallback(str(error).removesuffix(_OR_CPU))
            self.device = "cpu"
            self._traced = traced
            self._open(graph, execution)
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        """The graph's ``metadata_props``."""
        self.inputs: dict[str, tuple[str, tuple[int | str, ...]]] = {
            i.name: (i.type, tuple(i.shape)) for i in self._session.get_inputs()
        }
        """Type and shape of each input; names stand for dimensions that vary."""
        self.outputs: dict[str, tuple[str, tuple[int | str, ...]]] = {
            o.name: (o.type, tuple(o.shape)) for o in self._session.get_outputs()
        }

    @property
    def placement(self) -> dict[str, int] | None:
        """Number of operators on each execution provider.

        None where there is no record of it: on the CPU, which has them all, and before onnxruntime 1.24.
        """
        return self._recorded().nodes if self._traced and self._records else None

    def run(self, output: str, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Value of `output` for the inputs.

        Raises:
            DeviceError: the device failed (its memory is full, it was unplugged).
        """
        try:
            if self._bound is not None:
                return self._bound.run(output, inputs)
            result: npt.NDArray[np.float32] = self._session.run([output], dict(inputs))[0]
        except Exception as error:
            if self.device == "cpu":
                raise
            raise DeviceError(
                f"{self.device} failed while running {self._name}: {_first_line(error)}; use --device cpu"
            ) from error
        return result

    def node_providers(self, inputs: Mapping[str, npt.NDArray[Any]]) -> NodeProviders:
        """Which execution provider runs each operator. Once for each session, which must be `traced`.

        Args:
            inputs: to run the graph on where onnxruntime keeps no record (before 1.24).
        """
        assert self._traced, "make the session with traced=True"
        if self._profile is None:
            return self._recorded()
        with self._profile:
            self._session.run(None, dict(inputs))
            events = json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8"))
        # Keyed by operator: the profile holds an event for each run of it.
        pairs = {
            (event["name"], event["args"].get("node_index")): (
                event["args"]["provider"],
                event["args"]["op_name"],
            )
            for event in events
            if event.get("cat") == "Node" and event.get("args", {}).get("provider")
        }
        return _counted("profile", list(pairs.values()))

    def _recorded(self) -> NodeProviders:
        """What onnxruntime itself notes of who runs what."""
        parts = getattr(self._session, _ASSIGNMENT)()
        return _counted(
            "assignment", [(part.ep_name, node.op_type) for part in parts for node in part.get_nodes()]
        )

    def _open(self, graph: Path | bytes, execution: Execution) -> None:
        """Make the session on `self.device`, and check that it is there."""
        self._session = self._create(graph, execution, capture=False)
        used = self._session.get_providers()
        kind = DEVICES[self.device]
        if kind.provider not in used:
            # onnxruntime falls back to the CPU with no more than a log line.
            reason = loading_problem(self.device) or (
                f"onnxruntime takes {', '.join(used)} in its place, --debug shows what it logs"
            )
            asked = ", ".join(f"{key}={value}" for key, value in execution.options.items())
            where = f"{self.device} is not usable with {asked}" if asked else f"{self.device} is not usable"
            raise DeviceError(f"{where}: {reason}{_OR_CPU}")
        if execution.strict and self.device != "cpu":
            self._check_strict()
        self._bound: BoundSession | None = None
        if kind.memory:
            capture = execution.cuda_graph and self._all_on_device()
            if capture:
                self._session = self._create(graph, execution, capture=True)
            number = int(execution.options.get("device_id", "0"))
            self._bound = BoundSession(self._runtime, self._session, kind.memory, number, capture=capture)
        if self.device == "cpu":
            # onnxruntime would hold the content for a change of providers, which the CPU never needs.
            self._session._model_bytes = None  # noqa: SLF001

    def _create(self, graph: Path | bytes, execution: Execution, *, capture: bool) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = execution.threads or allowed_cpus()
        # Of this package alone: a host that logs everything does not want the hundreds of lines of onnxruntime.
        debug = logging.getLogger("salgan_edge").level == logging.DEBUG
        # Errors come as exceptions; all else is noise to a user. --debug of the command line shows it.
        options.log_severity_level = _INFO if debug else _FATAL
        if not execution.spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._profile = _trace(self._runtime, options) if self._traced and not capture else None
        providers = _providers(self.device, execution, graph, self._name, capture=capture)
        if execution.strict and not self._records and self.device != "cpu":
            # Without a record of the operators, onnxruntime itself must refuse.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            providers = [entry for entry in providers if entry[0] != CPU_PROVIDER]
        if DEVICES[self.device].sequential:
            # onnxruntime's documentation of DirectML asks for both.
            options.enable_mem_pattern = False
            options.execution_mode = self._runtime.ExecutionMode.ORT_SEQUENTIAL
        content = str(graph) if isinstance(graph, Path) else graph
        try:
            with (
                warnings.catch_warnings(),
                _default_log(self._runtime, quiet=not (debug or self.device == "cpu")),
            ):
                # onnxruntime warns of providers that it drops; what is really used is checked below.
                warnings.simplefilter("ignore")
                # Its own fallback prints on standard output and goes on with the CPU.
                return self._runtime.InferenceSession(
                    content, options, providers=providers, enable_fallback=0
                )
        except Exception as error:  # onnxruntime raises a family of its own
            if self.device != "cpu" and self._loads_on_cpu(content):
                reason = loading_problem(self.device) or _first_line(error)
                raise DeviceError(f"{self.device} cannot run {self._name}: {reason}{_OR_CPU}") from error
            raise BundleFormatError(
                f"onnxruntime cannot load {self._name}: {_first_line(error)}; export the bundle again"
            ) from error

    def _loads_on_cpu(self, content: str | bytes) -> bool:
        """Whether a graph is sound, so that it is the device that refuses it."""
        options = self._runtime.SessionOptions()
        options.log_severity_level = _FATAL
        try:
            self._runtime.InferenceSession(content, options, providers=[CPU_PROVIDER])
        except Exception:  # noqa: BLE001 - onnxruntime raises a family of its own
            return False
        return True

    def _all_on_device(self) -> bool:
        return self._records and not self._elsewhere((DEVICES[self.device].provider,))

    def _elsewhere(self, allowed: Collection[str]) -> dict[str, dict[str, int]]:
        """Operators of each other provider than those allowed that do more than compute shapes."""
        found = {
            provider: {name: count for name, count in operators.items() if name not in _SHAPE_OPERATORS}
            for provider, operators in self._recorded().operators.items()
            if provider not in allowed
        }
        return {provider: operators for provider, operators in found.items() if operators}

    def _check_strict(self) -> None:
        """Refuse operators that are not on the device.

        Raises:
            DeviceError: some are on the CPU.
        """
        if not self._records:
            return
        kind = DEVICES[self.device]
        elsewhere = self._elsewhere((kind.provider, *kind.beside))
        if elsewhere:
            found = "; ".join(
                f"{', '.join(f'{count} {kind}' for kind, count in operators.items())} on {provider}"
                for provider, operators in elsewhere.items()
            )
            raise DeviceError(
                f"{self.device} does not run all of {self._name}: {found}; leave out --strict to allow that"
            )


class _Buffers(NamedTuple):
    """What one set of shapes is bound to."""

    binding: Any
    inputs: dict[str, Any]
    output: Any
    options: Any


class BoundSession:
    """Runs a session with fixed input and output buffers for each set of input shapes.

    A run then allocates nothing on the device and copies each input and the output once. Buffers of
    the last eight sets of shapes are kept. The first eight are captured, if any: onnxruntime keeps each
    graph with its memory as long as the session.

    Args:
        runtime: the onnxruntime module.
        session: an ``InferenceSession``.
        place: onnxruntime's name of the memory: ``cuda``, or ``cpu``.
        number: which of the devices.
        capture: the session was made with ``enable_cuda_graph``: each set of shapes gets a graph of its own.
    """

    def __init__(
        self, runtime: Any, session: Any, place: str, number: int = 0, *, capture: bool = False
    ) -> None:
        self._runtime = runtime
        self._session = session
        self._place = (place, number)
        self._capture = capture
        self._buffers: OrderedDict[tuple[Any, ...], _Buffers] = OrderedDict()
        self._graphs = 0
        self._turn = threading.Lock()

    def run(self, output: str, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Value of `output` for the inputs; the array is the caller's. One thread at a time has the buffers."""
        with self._turn:
            return self._run(output, inputs)

    def _run(self, output: str, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        key = (output, *((name, array.shape, array.dtype.str) for name, array in arrays.items()))
        if key not in self._buffers:
            self._buffers[key] = self._bind(output, arrays)
            while len(self._buffers) > _KEPT_BUFFERS:
                self._buffers.popitem(last=False)
        self._buffers.move_to_end(key)
        buffers = self._buffers[key]
        for name, array in arrays.items():
            buffers.inputs[name].update_inplace(array)
        self._session.run_with_iobinding(buffers.binding, buffers.options)
        # A copy: on the CPU, numpy() is the buffer itself, which the next run overwrites.
        return np.array(buffers.output.numpy())

    def _bind(self, output: str, arrays: Mapping[str, npt.NDArray[Any]]) -> _Buffers:
        value = self._runtime.OrtValue
        # Copies: on the CPU, the buffer is the array itself, and the caller's must not be overwritten.
        inputs = {
            name: value.ortvalue_from_numpy(array.copy(), *self._place) for name, array in arrays.items()
        }
        # The first run tells the output's shape.
        probe = self._session.io_binding()
        for name, buffer in inputs.items():
            probe.bind_ortvalue_input(name, buffer)
        probe.bind_output(output, *self._place)
        self._session.run_with_iobinding(probe, self._options(_NO_GRAPH))
        found = probe.get_outputs()[0]
        result = value.ortvalue_from_shape_and_type(found.shape(), np.float32, *self._place)
        binding = self._session.io_binding()
        for name, buffer in inputs.items():
            binding.bind_ortvalue_input(name, buffer)
        binding.bind_ortvalue_output(output, result)
        self._graphs += 1
        graph = str(self._graphs) if self._graphs <= _KEPT_BUFFERS else _NO_GRAPH
        return _Buffers(binding, inputs, result, self._options(graph))

    def _options(self, graph: str) -> Any:
        """Run options."""
        options = self._runtime.RunOptions()
        if self._capture:
            options.add_run_config_entry("gpu_graph_id", graph)
        return options


def _counted(source: str, pairs: list[tuple[str, str]]) -> NodeProviders:
    """Count pairs of provider and operator type."""
    count = Counter(provider for provider, _ in pairs)
    return NodeProviders(
        source,
        dict(count.most_common()),
        {
            provider: dict(Counter(kind for other, kind in pairs if other == provider).most_common())
            for provider in count
        },
    )


def _trace(runtime: Any, options: Any) -> tempfile.TemporaryDirectory[str] | None:
    """Ask for a record of the operators' providers; a folder where only a profile can tell."""
    if hasattr(runtime.InferenceSession, _ASSIGNMENT):
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        return None
    folder = tempfile.TemporaryDirectory(prefix="salgan-edge-")
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(folder.name) / "profile")
    return folder


def load_onnxruntime() -> Any:
    """The onnxruntime module, imported with its telemetry off unless the environment says otherwise.

    With telemetry it keeps an identifier and a queue of events in the home folder, and sends them.

    Raises:
        MissingDependencyError: no onnxruntime package is installed, or it is broken.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime  # noqa: PLC0415 - 0.1 s that `--help` need not pay
    except ImportError as error:
        raise MissingDependencyError(_missing(_first_line(error))) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        # What is left when one of two packages was uninstalled after both had been installed.
        raise MissingDependencyError(_missing("it has no InferenceSession"))
    return onnxruntime


def _missing(problem: str) -> str:
    """What to do where onnxruntime cannot be imported."""
    if found := installed_packages():
        several = " (several overwrite each other)" if len(found) > 1 else ""
        return (
            f"the installed onnxruntime ({_packages()}){several} cannot be used: {problem}; "
            f"pip uninstall -y {' '.join(found)}, then pip install onnxruntime, or 'onnxruntime-gpu[cuda,cudnn]' for NVIDIA GPUs"
        )
    return "onnxruntime is not installed: pip install onnxruntime, or 'onnxruntime-gpu[cuda,cudnn]' for NVIDIA GPUs"


def _choose(runtime: Any, execution: Execution) -> str:
    """The device to try.

    Raises:
        DeviceError: the device asked for is not there, or `strict` finds nothing but the CPU.
    """
    available = runtime.get_available_providers()
    if execution.device == "cpu":
        return "cpu"
    if execution.device == "auto":
        if DEVICES["cuda"].provider not in available:
            if execution.strict:
                raise DeviceError(
                    f"no CUDA in the installed onnxruntime ({_packages()}), and --strict refuses the CPU: "
                    f"{repair('gpu')}; or name the device"
                )
            return "cpu"
        device = "cuda"
    else:
        device = execution.device
        _check_listed(device, available)
    _preload(runtime)
    if reason := loading_problem(device):
        if execution.device == "auto" and not execution.strict:
            _warn_of_fallback(reason)
            return "cpu"
        raise DeviceError(f"{device} is not usable: {reason}{_OR_CPU}")
    return device


def _check_listed(device: str, available: list[str]) -> None:
    kind = DEVICES[device]
    if kind.provider in available:
        return
    if kind.platform not in ("", sys.platform):
        raise DeviceError(f"{device} is only there on {SYSTEMS[kind.platform]}; use --device cpu")
    several = " (several overwrite each other)" if len(installed_packages()) > 1 else ""
    raise DeviceError(
        f"{device} was asked for, but the installed onnxruntime ({_packages()}){several} has no {kind.provider}: "
        f"{repair(kind.extra)}; or use --device cpu"
    )


def _packages() -> str:
    return ", ".join(f"{name} {version}" for name, version in installed_packages().items()) or "none"


def _warn_of_fallback(reason: str) -> None:
    warnings.warn(
        f"CUDA is there but not usable, so this runs on the CPU: {reason}; --device cpu silences this",
        DeviceWarning,
        stacklevel=_caller(),
    )


def _caller() -> int:
    """Stack level of the first function outside this package, for a warning of the calling function."""
    frame, level = sys._getframe(1), 1  # noqa: SLF001 - `warnings` itself can do this since Python 3.12
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("salgan_edge."):
        frame, level = frame.f_back, level + 1
    return level


def _preload(runtime: Any) -> None:
    """Load the CUDA libraries that pip installed; what is missing is found by `loading_problem`."""
    if hasattr(runtime, "preload_dlls"):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            runtime.preload_dlls()
        for line in output.getvalue().splitlines():
            _log.debug("%s", line)


def _providers(
    device: str, execution: Execution, graph: Path | bytes, name: str, *, capture: bool
) -> list[tuple[str, dict[str, str]]]:
    """Execution providers with their options, the preferred one first."""
    if device == "cpu":
        return [(CPU_PROVIDER, {})]
    kind = DEVICES[device]
    options = dict(execution.options)
    if kind.engine_cache and not any(key.startswith("trt_engine_cache") for key in options):
        # With `capture`, the session is made a second time.
        options = {**_engine_cache(graph, name, quiet=capture), **options}
    if capture:
        options[kind.graph_option] = "1"
    number = {key: value for key, value in options.items() if key == "device_id"}
    return [(kind.provider, options), *((other, number) for other in kind.beside), (CPU_PROVIDER, {})]


def _engine_cache(graph: Path | bytes, name: str, *, quiet: bool) -> dict[str, str]:
    """Options that keep TensorRT's engines, which take minutes to build.

    TensorRT names the files by graph and GPU, but would load what another version left.
    """
    from importlib import metadata  # noqa: PLC0415 - for TensorRT only

    content = graph.read_bytes() if isinstance(graph, Path) else graph
    versions = "-".join(f"{package}-{version}" for package, version in installed_packages().items())
    with contextlib.suppress(metadata.PackageNotFoundError):
        versions += f"-tensorrt-{metadata.version('tensorrt-cu13-libs')}"
    folder = cache_folder() / "tensorrt" / f"{hashlib.sha256(content).hexdigest()[:16]}-{versions}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        empty = not any(folder.iterdir())
        # TensorRT says so only once the engine is built.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise DeviceError(
            f"TensorRT's engines cannot be kept in {folder}: {error.strerror or error}; "
            "set SALGAN_EDGE_CACHE to a folder that can be written"
        ) from error
    if empty and not quiet:
        _log.warning(
            "TensorRT builds its engines for %s, once; this takes minutes (kept in %s)", name, folder
        )
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
    }


@contextlib.contextmanager
def _default_log(runtime: Any, *, quiet: bool) -> Iterator[None]:
    """Keep onnxruntime's log of providers that do not load off standard error, where `quiet`."""
    if quiet:
        runtime.set_default_logger_severity(_FATAL)
    try:
        yield
    finally:
        if quiet:
            runtime.set_default_logger_severity(_WARNING)


def _first_line(error: BaseException) -> str:
    """What an error of onnxruntime says, without the place and function in its source."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\S+:\d+ [^()]*\([^()]*\) ", "", line)
