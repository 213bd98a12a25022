"""How box targets should look: fitted to people who were told what to look for.

``python -m tools fit-targets --data ../shared/data``

Two kinds of told viewers are compared with targets made of boxes and free viewing: searchers (a
folder of ``phrases/`` with gaze of condition ``search``, where the target's box is known), and viewers of
SJTU-TIS whose text contains a noun that ``labels.csv`` places in the photo. Free viewing is
people's own where it was recorded, else what a bundle predicts. Test photos stay out.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from salgan_edge.train.data.named import TARGETS, TargetShape, box_map, object_map
from salgan_edge.train.data.samples import to_grid

from salgan_edge.gaze.detector import Detection
from salgan_edge.gaze.folder import FREE_VIEWING, GazeFolder
from salgan_edge.gaze.phrases import PhraseSet, parse_boxes
from salgan_edge.metrics import cc, kl_divergence
from salgan_edge.predictor import SaliencyPredictor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from salgan_edge.gaze.phrases import Box

    Floats = npt.NDArray[np.float32]
    Target = Callable[[Sequence[Box], Floats], Floats]

__all__ = ["Told", "fit", "is_named", "main", "peaks_inside", "score", "searchers", "told_viewers"]

_GRID = 64
_MARGIN = 0.02
_TOLD = ("salient", "nonsalient")
_ARTICLE = re.compile(r"^(?:a|an|the) ")
GRID = {
    "spread": (0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5),
    "blur": (0.01, 0.03, 0.05, 0.06, 0.07, 0.08, 0.1),
    "floor": (0.25, 0.5, 1.0, 1e3),
    "share": (0.1, 0.2, 0.35, 0.5, 0.75, 1.0),
}
"""Values that are tried for each field of `TargetShape`; a floor of 1,000 is a plain Gaussian."""


@dataclass(frozen=True)
class Told:
    """One photo that people looked at, told what lies in some boxes."""

    viewers: str
    """``search``, ``salient`` or ``nonsalient``."""
    boxes: tuple[Box, ...]
    free: Floats
    """Free viewing (G, G), largest value 1."""
    gaze: Floats
    """Where the told viewers looked (G, G)."""


def searchers(data: Path, predict: Callable[[npt.NDArray[np.uint8]], Floats]) -> list[Told]:
    """Photos whose viewers searched for a thing with a known box.

    Args:
        data: folder that holds ``phrases``.
        predict: free viewing (G, G) of a photo.
    """
    found = []
    for table in sorted(data.glob("phrases/*/pairs.csv")):
        with table.open(newline="", encoding="utf-8-sig") as file:
            boxes = {
                (row["image"], row["condition"]): parse_boxes(row.get("boxes") or "")
                for row in csv.DictReader(file)
            }
        if not any(boxes.values()):
            continue
        folder = GazeFolder(table.parent)
        for pair in folder.pairs:
            placed = boxes[pair.image, pair.condition]
            if pair.split != "test" and pair.text and placed:
                gaze = to_grid(folder.saliency_map(pair), _GRID)
                found.append(Told("search", placed, predict(folder.image(pair.image)), gaze))
    return found


def told_viewers(data: Path) -> list[Told]:
    """Photos of SJTU-TIS whose text names something that ``labels.csv`` places."""
    folder = GazeFolder(data / "sjtu_tis")
    labels = PhraseSet(data / "phrases" / "labels.csv", data).select("train", "validation")
    free = {pair.image: pair for pair in folder.pairs if pair.condition == FREE_VIEWING}
    found = []
    for pair in folder.pairs:
        if pair.split == "test" or pair.condition not in _TOLD:
            continue
        named = [
            box
            for phrase in labels.get(f"sjtu_tis/{pair.image}", [])
            if phrase.kind == "noun" and any(is_named(pair.text, text) for text in phrase.texts)
            for box in phrase.boxes
        ]
        if named:
            maps = [to_grid(folder.saliency_map(p), _GRID) for p in (free[pair.image], pair)]
            found.append(Told(pair.condition, tuple(named), *maps))
    return found


def fit(cases: Sequence[Told]) -> list[tuple[float, float, TargetShape]]:
    """Every shape of `GRID` with its mean CC and KL, each kind of viewers weighing the same; best CC first."""
    scores = []
    for values in itertools.product(*GRID.values()):
        shape = TargetShape(*values)
        by_kind = score(cases, lambda boxes, free, shape=shape: box_map(boxes, free, shape))  # type: ignore[misc]
        scores.append((*np.mean(list(by_kind.values()), axis=0).tolist(), shape))
    return sorted(scores, key=lambda row: -row[0])


def score(cases: Sequence[Told], target: Target) -> dict[str, tuple[float, float]]:
    """Mean CC and KL of targets with told viewers' gaze, by kind of viewers."""
    kinds: dict[str, list[tuple[float, float]]] = {}
    for case in cases:
        made = target(case.boxes, case.free)
        kinds.setdefault(case.viewers, []).append((cc(made, case.gaze), kl_divergence(made, case.gaze)))
    return {kind: tuple(np.mean(rows, axis=0).tolist()) for kind, rows in sorted(kinds.items())}


def peaks_inside(cases: Iterable[Told], target: Target) -> float:
    """Share of targets that have their own peak in a box, widened by 2 % of the photo's sides."""
    inside = []
    for case in cases:
        row, column = np.unravel_index(int(target(case.boxes, case.free).argmax()), case.free.shape)
        x, y = (column + 0.5) / _GRID, (row + 0.5) / _GRID
        inside.append(
            any(
                x0 - _MARGIN <= x <= x1 + _MARGIN and y0 - _MARGIN <= y <= y1 + _MARGIN
                for x0, y0, x1, y1 in case.boxes
            )
        )
    return float(np.mean(inside))


def is_named(text: str, noun: str) -> bool:
    """Whether a text has a noun, its article left out, as whole words."""
    bare = _ARTICLE.sub("", noun.lower())
    return re.search(rf"\b{re.escape(bare)}\b", text.lower()) is not None


def _detected(boxes: Sequence[Box], free: Floats, *, gaze: bool) -> Floats:
    """The targets of release 0.1.0."""
    return object_map([Detection("", 1.0, box) for box in boxes], free, gaze=gaze)


def main(
    data: Annotated[Path, typer.Option(help="Folder that holds sjtu_tis and phrases.")],
    bundle: Annotated[
        Path | None, typer.Option(help="Predicts free viewing; default: the embedded one.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the table as JSON.")] = None,
) -> None:
    """Fit the shape of box targets to told viewers and print a table."""
    predictor = SaliencyPredictor.load(bundle)

    def free_view(photo: npt.NDArray[np.uint8]) -> Floats:
        return to_grid(predictor.predict(photo, None).map, _GRID)

    cases = [*searchers(data, free_view), *told_viewers(data)]
    rows: dict[str, Target] = {
        "free viewing alone": lambda _boxes, free: free,
        "box (0.1.0)": lambda boxes, free: _detected(boxes, free, gaze=False),
        "gaze (0.1.0)": lambda boxes, free: _detected(boxes, free, gaze=True),
        "people": lambda boxes, free: box_map(boxes, free, TARGETS["people"]),
    }
    best = fit(cases)
    for _, _, shape in best[:3]:
        rows[str(asdict(shape))] = lambda boxes, free, shape=shape: box_map(boxes, free, shape)  # type: ignore[misc]
    kinds = sorted({case.viewers for case in cases})
    counts = {kind: sum(case.viewers == kind for case in cases) for kind in kinds}
    typer.echo(
        f"CC / KL with told viewers' gaze: {', '.join(f'{kind} {n} photos' for kind, n in counts.items())}"
    )
    table = {}
    for name, target in rows.items():
        scores = score(cases, target)
        inside = peaks_inside(cases, target)
        table[name] = {"scores": scores, "peaks_inside": inside}
        cells = "  ".join(f"{scores[kind][0]:.3f} / {scores[kind][1]:.3f}" for kind in kinds)
        typer.echo(f"{cells}  peak in a box {inside:.3f}  {name}")
    if output is not None:
        output.write_text(json.dumps({"cases": counts, "rows": table}, indent=1), encoding="utf-8")
