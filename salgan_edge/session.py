"""Execution of one graph. The only file that imports onnxruntime."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from salgan_edge.errors import BundleFormatError, DeviceError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

__all__ = ["Device", "DeviceWarning", "GraphSession", "NodeProviders", "allowed_cpus", "installed_packages"]

Device = Literal["auto", "cpu", "cuda"]

_PROVIDERS: dict[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_PACKAGES = ("onnxruntime", "onnxruntime-gpu")
_ASSIGNMENT = "get_provider_graph_assignment_info"  # since onnxruntime 1.24


class DeviceWarning(UserWarning):
    """`auto` fell back to the CPU although CUDA seemed to be there."""


def installed_packages() -> dict[str, str]:
    """Versions of the installed onnxruntime packages; more than one overwrite each other's files."""
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def allowed_cpus() -> int:
    """Number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


class GraphSession:
    """A loaded graph on the device that it really runs on.

    Args:
        graph: ONNX file, or its content.
        device: ``cpu``, ``cuda``, or ``auto`` for CUDA where it works and the CPU elsewhere.
        threads: CPU threads of one operator; all allowed CPUs where None.
        traced: note which execution provider runs which operator, for `node_providers`.
        name: what messages call the graph; the file's name where None.

    Warns:
        DeviceWarning: `auto` found CUDA listed but not working.

    Raises:
        MissingDependencyError: neither onnxruntime package is installed.
        DeviceError: a device asked for by name is not used.
        BundleFormatError: the file is no graph that onnxruntime reads.
    """

    def __init__(
        self,
        graph: Path | bytes,
        device: Device = "auto",
        threads: int | None = None,
        *,
        traced: bool = False,
        name: str | None = None,
    ) -> None:
        name = name or (graph.name if isinstance(graph, Path) else "the graph")
        content = str(graph) if isinstance(graph, Path) else graph
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or allowed_cpus()
        # Everything below an error is noise to a user; --debug of the command line shows it.
        options.log_severity_level = 3
        self._profile = _trace(runtime, options) if traced else None
        self._traced = traced
        wanted = _wanted(runtime, device)
        try:
            with warnings.catch_warnings():
                # onnxruntime warns of providers that it drops; what is really used is checked below.
                warnings.simplefilter("ignore")
                self._session = runtime.InferenceSession(content, options, providers=wanted)
        except Exception as error:  # onnxruntime raises a family of its own
            reason = str(error).splitlines()[0]
            if device == "cuda":
                raise DeviceError(f"cuda cannot run {name}: {reason}; use --device cpu") from error
            raise BundleFormatError(
                f"onnxruntime cannot load {name}: {reason}; export the bundle again"
            ) from error
        used = self._session.get_providers()
        if device == "cuda" and _PROVIDERS["cuda"] not in used:
            # onnxruntime falls back to the CPU with no more than a log line.
            raise DeviceError(
                "cuda was asked for but onnxruntime uses the CPU: CUDA 13 and cuDNN 9 are missing or do not fit the "
                "driver; install them with pip install 'salgan-edge[gpu]', or use --device cpu"
            )
        if _PROVIDERS["cuda"] in wanted and _PROVIDERS["cuda"] not in used:
            warnings.warn(
                "onnxruntime lists CUDA but cannot use it, so this runs on the CPU; --device cpu silences this",
                DeviceWarning,
                stacklevel=2,
            )
        if _PROVIDERS["cuda"] not in used:
            # onnxruntime would hold the content for a change of providers, which the CPU never needs.
            self._session._model_bytes = None  # noqa: SLF001
        self.device: str = "cuda" if _PROVIDERS["cuda"] in used else "cpu"
        """Where the graph runs."""
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        """The graph's ``metadata_props``."""
        self.inputs: dict[str, tuple[str, tuple[int | str, ...]]] = {
            i.name: (i.type, tuple(i.shape)) for i in self._session.get_inputs()
        }
        """Type and shape of each input; names stand for dimensions that vary."""
        self.outputs: dict[str, tuple[str, tuple[int | str, ...]]] = {
            o.name: (o.type, tuple(o.shape)) for o in self._session.get_outputs()
        }

    def run(self, output: str, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Value of `output` for the inputs."""
        result: npt.NDArray[np.float32] = self._session.run([output], dict(inputs))[0]
        return result

    def node_providers(self, inputs: Mapping[str, npt.NDArray[Any]]) -> NodeProviders:
        """Which execution provider runs each operator. Once for each session, which must be `traced`.

        Args:
            inputs: to run the graph on where onnxruntime keeps no record (before 1.24).
        """
        assert self._traced, "make the session with traced=True"
        if self._profile is None:
            pairs = [
                (part.ep_name, node.op_type)
                for part in getattr(self._session, _ASSIGNMENT)()
                for node in part.get_nodes()
            ]
        else:
            with self._profile:
                self._session.run(None, dict(inputs))
                events = json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8"))
            # Keyed by operator: the profile holds an event for each run of it.
            pairs = list(
                {
                    (event["name"], event["args"].get("node_index")): (
                        event["args"]["provider"],
                        event["args"]["op_name"],
                    )
                    for event in events
                    if event.get("cat") == "Node" and event.get("args", {}).get("provider")
                }.values()
            )
        count = Counter(provider for provider, _ in pairs)
        return NodeProviders(
            "assignment" if self._profile is None else "profile",
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


def _onnxruntime() -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 - 0.1 s that `--help` need not pay
    except ImportError as error:
        raise MissingDependencyError(
            "onnxruntime is not installed: pip install 'salgan-edge[cpu]', or 'salgan-edge[gpu]' for NVIDIA GPUs"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        # What is left when one of the two packages was uninstalled after both had been installed.
        raise MissingDependencyError(
            "onnxruntime is damaged (two packages overwrote each other): pip uninstall -y onnxruntime onnxruntime-gpu, "
            "then install 'salgan-edge[cpu]' or 'salgan-edge[gpu]'"
        )
    return onnxruntime


def _wanted(runtime: Any, device: Device) -> list[str]:
    available = runtime.get_available_providers()
    if device == "cpu" or (device == "auto" and _PROVIDERS["cuda"] not in available):
        return [_PROVIDERS["cpu"]]
    if device not in ("auto", "cuda"):
        raise DeviceError(f"device {device!r} is unknown: auto, cpu or cuda was expected")
    if _PROVIDERS["cuda"] not in available:
        packages = ", ".join(f"{n} {v}" for n, v in installed_packages().items()) or "none"
        raise DeviceError(
            f"cuda was asked for, but the installed onnxruntime ({packages}) has no CUDA: "
            "pip uninstall -y onnxruntime, then pip install 'salgan-edge[gpu]'; or use --device cpu"
        )
    if hasattr(runtime, "preload_dlls"):
        runtime.preload_dlls()
    return [_PROVIDERS["cuda"], _PROVIDERS["cpu"]]
