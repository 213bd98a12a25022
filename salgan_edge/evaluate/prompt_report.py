"""What the pointing game found, for people and spreadsheets: a table, a CSV file, a sheet of pictures."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from salgan_edge.evaluate.pointing import MARGIN, inside, peak
from salgan_edge.evaluate.prompts import BIG, LARGEST, NOUN_CASES, SMALL
from salgan_edge.files import writing
from salgan_edge.gaze.phrases import format_boxes
from salgan_edge.render import captioned, overlay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from salgan_edge.evaluate.prompts import Absence, Case, Model, Noun, PromptEvaluation, PromptRow
    from salgan_edge.evaluate.resampling import Interval
    from salgan_edge.gaze.phrases import Box, PhraseSet

    FloatMap = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

__all__ = ["CSV_COLUMNS", "prompt_sheet", "sheet_cases", "text_table", "write_csv"]

CSV_COLUMNS = (
    "table", "model", "bundle", "set", "image", "kind", "text", "boxes", "area", "told", "untold", "lift", "peak_x", "peak_y",
    "text_effect", "variation",
)  # fmt: skip

_WIDTH, _HEIGHT = 400, 300
_GAP = 8
_EDGE, _UNDER = (255, 255, 255), (0, 0, 0)


def text_table(evaluation: PromptEvaluation, worst: int = 20) -> str:
    """The scores in lines of about 120 characters, with the `worst` nouns and as many of the best."""
    limited = "" if evaluation.photos == evaluation.photos_of_split else f" of {evaluation.photos_of_split}"
    asked = "first wording of each row" if evaluation.wordings == "first" else "all wordings, averaged by row"
    lines = [
        f"{evaluation.table}, split {evaluation.split}: {evaluation.photos}{limited} photos, {evaluation.texts} texts ({asked})"
    ]
    if evaluation.left_out:
        lines.append(
            f"left out: {evaluation.left_out} rows without boxes or with boxes over {_percent(LARGEST)} of the photo"
        )
    for model in evaluation.models:
        lines += ["", f"{model.name} (bundle {model.bundle})" if model.bundle else model.name]
        heads = ("told", "untold", "lift (median)")
        lines.append(
            f"{'texts':<26}{'cases':>6}{'photos':>7}"
            + "".join(f"{head:>21}" for head in heads)
            + f"{'at random':>11}{'box area':>10}"
        )
        sizes = {
            "small": f"small (< {_percent(SMALL)})",
            "medium": "medium",
            "large": f"large (> {_percent(BIG)})",
        }
        parts = [
            *((name, row) for name, row in model.rows.items()),
            *((f"  set {name}", row) for name, row in model.sets.items() if len(model.sets) > 1),
            *((f"  boxes {sizes[name]}", row) for name, row in model.sizes.items()),
        ]
        lines += [_line(name, row) for name, row in parts]
        if model.less_first is not None:
            lines.append(f"told, less the first bundle {_span(model.less_first, '+.3f')}")
        if model.absence is not None:
            lines += _absence_lines(model.absence)
        lines += _noun_lines(model.nouns, worst)
    lines += [
        "",
        f"told: share of texts whose map has its peak in a box of what they name, widened by {_percent(MARGIN)} of the photo; untold: the",
        "same without the text; lift: mass of the map in the boxes, over that without the text; at random: a peak at a random place.",
        f"In brackets: 95 % intervals from {evaluation.resamples} bootstrap samples of photos.",
    ]
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _line(name: str, row: PromptRow) -> str:
    cells = [_span(value) if value is not None else "-" for value in (row.told, row.untold, row.lift)]
    spans = "".join(f"{cell:>21}" for cell in cells)
    return f"{name[:25]:<26}{row.cases:>6}{row.photos:>7}{spans}{row.at_random:>11.3f}{row.box_area:>10.3f}"


def _span(value: Interval, form: str = ".3f") -> str:
    return f"{value[0]:{form}} [{value[1]:.3f}, {value[2]:.3f}]"


def _absence_lines(absence: Absence) -> list[str]:
    lines = [
        f"present or absent? {absence.present} texts about the photo, {absence.absent} of other photos; area under the ROC curve"
    ]
    for label, found in (
        ("1 - correlation", absence.text_effect),
        ("variation distance", absence.variation),
    ):
        matched = (
            ""
            if found.auc_matched is None
            else f"; from {absence.present_matched} with words as rare {_span(found.auc_matched)}"
        )
        means = f"mean {found.present:.3f} present, {found.absent:.3f} absent"
        lines.append(f"  {label:<20}{_span(found.auc)}{matched}; {means}")
    return lines


def _noun_lines(nouns: Sequence[Noun], count: int) -> list[str]:
    if not nouns or count == 0:
        return []

    def shown(noun: Noun) -> str:
        return f"{noun.noun[:27]:<28}{noun.cases:>4}{noun.told:>7.2f}{noun.untold:>8.2f}"

    head = f"{'cases':>4}{'told':>6}{'untold':>8}"
    lines = [f"{'worst nouns':<27}{head}     {'best nouns':<27}{head}"]
    best = sorted(nouns, key=lambda n: (-n.told, n.untold - n.told, -n.cases, n.noun))
    lines += [
        f"{shown(low)}     {shown(high)}" for low, high in zip(nouns[:count], best[:count], strict=True)
    ]
    lines.append(f"({len(nouns)} nouns have {NOUN_CASES} cases or more)")
    return lines


def write_csv(evaluations: Iterable[PromptEvaluation], path: Path) -> None:
    """One line for each text that was asked, columns `CSV_COLUMNS`; peaks in shares of width and height.

    Raises:
        OutputError: the file cannot be written.
    """
    with writing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for evaluation in evaluations:
            for model in evaluation.models:
                for case in model.cases:
                    numbers = (case.lift, *case.peak, case.text_effect, case.variation)
                    writer.writerow(
                        [evaluation.table, model.name, model.bundle or "", *case.photo.split("/", 1), case.kind, case.text]
                        + [format_boxes(case.boxes), f"{case.area:.4f}", int(case.told), int(case.untold)]
                        + ["" if np.isnan(number) else f"{number:.4f}" for number in numbers]
                    )  # fmt: skip


def sheet_cases(cases: Sequence[Case], count: int) -> list[Case]:
    """Cases to show, of `count` photos or fewer: hits and misses in turn, each spread over all, one a photo.

    Hits are those that free viewing misses; where there are too few, any.
    """
    by_photo: dict[str, list[Case]] = {}
    for case in cases:
        by_photo.setdefault(case.photo, []).append(case)
    hits = _one_each(by_photo, lambda case: case.told > case.untold)
    if len(hits) < count - count // 2:
        hits |= _one_each({p: c for p, c in by_photo.items() if p not in hits}, lambda case: case.told > 0)
    shown = _spread(list(hits.values()), min(len(hits), count - count // 2))
    taken = {case.photo for case in shown}
    misses = _one_each({p: c for p, c in by_photo.items() if p not in taken}, lambda case: case.told == 0)
    missed = _spread(list(misses.values()), min(len(misses), count - len(shown)))
    turns = [case for pair in zip(shown, missed, strict=False) for case in pair]
    return turns + shown[len(missed) :] + missed[len(shown) :]


def _one_each(by_photo: Mapping[str, Sequence[Case]], wanted: Callable[[Case], bool]) -> dict[str, Case]:
    """Of each photo with a wanted case one of them, another in turn, so that all kinds occur."""
    found = {
        photo: fitting for photo, some in by_photo.items() if (fitting := [c for c in some if wanted(c)])
    }
    return {photo: fitting[n % len(fitting)] for n, (photo, fitting) in enumerate(found.items())}


def _spread(cases: Sequence[Case], count: int) -> list[Case]:
    return [cases[n * len(cases) // count] for n in range(count)]


def prompt_sheet(models: Sequence[Model], phrases: PhraseSet, cases: Sequence[Case]) -> Pixels:
    """Cases as one picture, RGB uint8: the photo with its boxes, then each model's map without and with the text.

    A cross marks the peak. The line above says which models hit.

    Args:
        models: at least one.
        phrases: where the photos come from.
        cases: of `sheet_cases`, at least one.
    """
    names = [name for model in models for name in _headings(model.name, alone=len(models) == 1)]
    parts = [_row([captioned(_blank(0), name) for name in ["photo", *names]])]
    for case in cases:
        photo = phrases.image(case.photo)
        small = _fitted(photo)
        panels, told = [_boxed(small, case.boxes)], []
        for model in models:
            maps = model.maps(photo, [None, case.text])
            panels += [_boxed(_marked(small, values), case.boxes, thin=True) for values in maps]
            free, hit = ("hit" if inside(peak(values), case.boxes) else "miss" for values in maps)
            told.append(f"{hit} (without the text {free})")
        row = _row([_padded(panel) for panel in panels])
        caption = f'"{case.text}": {", ".join(told)}; {case.kind}, {case.photo}'
        parts += [captioned(row, caption), np.full((_GAP, row.shape[1], 3), 255, np.uint8)]
    return np.concatenate(parts)


def _headings(name: str, *, alone: bool) -> tuple[str, str]:
    return ("told nothing", "told the text") if alone else (f"{name}, told nothing", f"{name}, told the text")


def _fitted(photo: Pixels) -> Pixels:
    """The photo as large as a panel allows."""
    height, width = photo.shape[:2]
    scale = min(_WIDTH / width, _HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cast("Pixels", cv2.resize(photo, size, interpolation=how))


def _marked(small: Pixels, values: FloatMap) -> Pixels:
    """The overlay of a map, with a cross at its peak."""
    height, width = small.shape[:2]
    how = cv2.INTER_AREA if values.shape[0] > height else cv2.INTER_LINEAR
    grid = cast("FloatMap", cv2.resize(values, (width, height), interpolation=how))
    scaled = np.clip(grid / max(float(grid.max()), 1e-12), 0, 1)
    picture = overlay(small, scaled.astype(np.float32))
    x, y = peak(values)
    at = (int(x * width), int(y * height))
    cv2.drawMarker(picture, at, _UNDER, cv2.MARKER_CROSS, 17, 5)
    cv2.drawMarker(picture, at, _EDGE, cv2.MARKER_CROSS, 15, 2)
    return picture


def _boxed(picture: Pixels, boxes: Sequence[Box], *, thin: bool = False) -> Pixels:
    """A copy with the boxes drawn, white on black so that they show on any photo."""
    drawn = picture.copy()
    height, width = picture.shape[:2]
    for colour, thickness in ((_UNDER, 3), (_EDGE, 1)) if thin else ((_UNDER, 5), (_EDGE, 2)):
        for x0, y0, x1, y1 in boxes:
            first = (round(x0 * (width - 1)), round(y0 * (height - 1)))
            last = (round(x1 * (width - 1)), round(y1 * (height - 1)))
            cv2.rectangle(drawn, first, last, colour, thickness)
    return drawn


def _padded(panel: Pixels) -> Pixels:
    """A panel in the middle of the column's width."""
    canvas = _blank(panel.shape[0])
    left = (_WIDTH - panel.shape[1]) // 2
    canvas[:, left : left + panel.shape[1]] = panel
    return canvas


def _blank(height: int) -> Pixels:
    return np.full((height, _WIDTH, 3), 255, np.uint8)


def _row(panels: Sequence[Pixels]) -> Pixels:
    gap = np.full((panels[0].shape[0], _GAP, 3), 255, np.uint8)
    parts = [part for panel in panels for part in (panel, gap)]
    return np.concatenate(parts[:-1], axis=1)
