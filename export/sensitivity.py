"""Which layers suffer from int8, found by measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from salgan_edge.export.run import GraphRun

from salgan_edge import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    from salgan_edge.export.calibration import View
    from salgan_edge.export.gate import Judge
    from salgan_edge.export.quantise import Plan, Range

    Maps = npt.NDArray[np.float32]

__all__ = ["MOST_FLOAT", "Choice", "LayerCost", "choose_layers", "next_count"]

MOST_FLOAT = 0.5
"""Share of the layers in float beyond which int8 is given up: little would be left of it."""

_RANKED_VIEWS = 5
_RANKED_TEXTS = 3
_COUNTS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
"""Numbers of layers that are left in float, one after the other."""


@dataclass(frozen=True)
class LayerCost:
    """What int8 in one layer alone costs."""

    layer: str
    loss: float
    """Mean of 1 - CC with the fp32 map, on calibration photos."""


@dataclass(frozen=True)
class Choice:
    """What a search found."""

    costs: tuple[LayerCost, ...]
    """All layers, the one that hurts most first."""
    order: tuple[int, ...]
    """Their numbers in the plan."""
    in_float: int
    """How many of the first stay in float; the most that may where fewer do not keep the limits."""
    ranges: str
    """How the ranges were found, by the name they were given under."""


def next_count(count: int) -> int:
    """The next larger number of layers to leave in float."""
    return next((larger for larger in _COUNTS if larger > count), 2 * count)


def choose_layers(
    plan: Plan,
    ranges: Mapping[str, Mapping[str, Range]],
    views: Sequence[View],
    vectors: Sequence[Maps],
    judge: Judge,
    report: Callable[[str], None],
) -> Choice:
    """Rank layers by what each costs alone; leave the first of them in float until a judge is content.

    Args:
        plan: of the generator.
        ranges: by the name of the method, each of all activations; the first ranks the layers.
        views: calibration photos.
        vectors: text vectors of each view's texts.
        judge: of the same views, with stricter limits than those of the gate.
        report: called with a line for each step.
    """
    probes = {name: GraphRun(plan.probe(found)) for name, found in ranges.items()}
    first = next(iter(probes))
    everything = set(range(len(plan.structure.layers)))

    def maps(method: str, layers: set[int], chosen: Sequence[int], texts: int | None = None) -> list[Maps]:
        switches = plan.switches(layers)
        return [probes[method].maps(views[n].photo, vectors[n][:texts], switches=switches) for n in chosen]

    some = sorted({n * len(views) // _RANKED_VIEWS for n in range(_RANKED_VIEWS)})
    reference = maps(first, set(), some, _RANKED_TEXTS)
    losses = [_loss(maps(first, {layer}, some, _RANKED_TEXTS), reference) for layer in sorted(everything)]
    order = sorted(everything, key=lambda layer: -losses[layer])
    costs = tuple(LayerCost(plan.structure.layers[n].name, losses[n]) for n in order)
    report(
        "layers that int8 hurts most, alone: "
        + ", ".join(f"{cost.layer} {cost.loss:.4f}" for cost in costs[:4])
    )
    whole = range(len(views))
    method = first
    for count in (count for count in _COUNTS if count <= MOST_FLOAT * len(order)):
        layers = everything - set(order[:count])
        results = {name: judge.judge(maps(name, layers, whole)) for name in probes}
        method = min(results, key=lambda name: results[name].cc_drop)
        if results[method].passed:
            break
    return Choice(costs, tuple(order), count, method)


def _loss(maps: Sequence[Maps], reference: Sequence[Maps]) -> float:
    return float(
        np.mean(
            [
                1 - metrics.cc(one, other)
                for some, others in zip(maps, reference, strict=True)
                for one, other in zip(some, others, strict=True)
            ]
        )
    )
