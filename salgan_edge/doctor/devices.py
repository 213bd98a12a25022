"""Devices: which are possible here, and which really compute."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from salgan_edge.devices import DEVICES, Execution
from salgan_edge.doctor import graph
from salgan_edge.doctor.child import ask

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["DeviceFacts", "gather_devices", "probe_device"]


@dataclass(frozen=True)
class DeviceFacts:
    """One device that the product knows."""

    name: str = "cpu"
    provider: str = ""
    package: str = ""
    """Distribution that brings the provider."""
    extra: str = ""
    """Extra of salgan-edge that brings the distribution."""
    possible: bool = True
    """There are such devices for this operating system."""
    listed: bool = False
    """The installed onnxruntime has the provider; that does not mean that it works."""
    tried: bool = False
    works: bool = False
    problem: str = ""
    """Why it does not work, in a line."""
    stderr: tuple[str, ...] = ()
    operators: dict[str, int] = field(default_factory=dict)
    """Which provider ran how many operators of the tiny graph."""
    milliseconds: float | None = None
    """To load the tiny graph and run it for the first time."""


def gather_devices(
    providers: Sequence[str], timeout: float, *, only: str | None = None, usable: bool = True
) -> tuple[DeviceFacts, ...]:
    """Try every device that onnxruntime has a provider for, each in its own subprocess.

    Args:
        providers: that the installed onnxruntime lists.
        timeout: seconds for each.
        only: try just this one, even where its provider is not listed.
        usable: onnxruntime can be imported; where not, nothing is tried.
    """
    found = []
    for name, kind in DEVICES.items():
        if only not in (None, name):
            continue
        facts: dict[str, Any] = {
            "name": name,
            "provider": kind.provider,
            "package": kind.package,
            "extra": kind.extra,
            "possible": kind.platform in ("", sys.platform),
            "listed": kind.provider in providers,
        }
        if usable and (kind.provider in providers or only == name):
            answer = ask(name, timeout=timeout)
            facts |= {
                "tried": True,
                "works": not answer.problem,
                "problem": answer.problem,
                "stderr": answer.stderr,
                "operators": answer.values.get("operators", {}),
                "milliseconds": answer.values.get("milliseconds"),
            }
        found.append(DeviceFacts(**facts))
    return tuple(found)


def probe_device(name: str) -> dict[str, Any]:
    """In a subprocess: run the tiny graph on a device and look at the result.

    Args:
        name: of the device.

    Raises:
        SalganEdgeError: it cannot be used.
        ArithmeticError: it computes something else.
    """
    import numpy as np  # noqa: PLC0415

    from salgan_edge.session import GraphSession  # noqa: PLC0415

    started = time.perf_counter()
    execution = Execution(name)
    session = GraphSession(graph.TINY_GRAPH, execution, traced=True, name="a tiny graph")
    inputs = {graph.INPUT: np.asarray(graph.X, np.float32)[None, None]}
    found = session.run(graph.OUTPUT, inputs)
    milliseconds = 1000 * (time.perf_counter() - started)
    expected = np.asarray(graph.Z, np.float32)[None, None]
    if found.shape != expected.shape or not np.allclose(found, expected, atol=0.05):
        raise ArithmeticError(
            f"it computes {np.asarray(found).ravel().tolist()} where {expected.ravel().tolist()} was expected"
        )
    if session.device != name:
        raise RuntimeError(f"the graph ran on {session.device} instead")
    return {"operators": session.node_providers(inputs).nodes, "milliseconds": round(milliseconds, 1)}
