"""What an evaluation found, for people and spreadsheets: text tables, the form of the paper's tables, and CSV."""

from __future__ import annotations

import contextlib
import csv
import math
from typing import TYPE_CHECKING

from salgan_edge.console import text_table
from salgan_edge.evaluate.scores import ALL, BIG, GROUPED, LARGEST, MARGIN, NOUN_CASES, SMALL
from salgan_edge.files import writing
from salgan_edge.gaze.phrases import format_boxes
from salgan_edge.metrics import METRICS

if TYPE_CHECKING:
    from _csv import Writer
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from salgan_edge.evaluate.scores import (
        Absence,
        DataScores,
        Estimate,
        Evaluation,
        Interval,
        ModelScores,
        Noun,
        Pointing,
        PromptEvaluation,
        PromptRow,
    )  # fmt: skip

__all__ = [
    "CSV_COLUMNS",
    "GROUPS",
    "NOTE",
    "PROMPT_CSV_COLUMNS",
    "gaze_table",
    "paper_tables",
    "prompt_table",
    "write_csv",
    "write_prompt_csv",
]

CSV_COLUMNS = (
    "data", "split", "model", "bundle", "condition", "metric", "mean", "low", "high", "pairs", "photos",
)  # fmt: skip

PROMPT_CSV_COLUMNS = (
    "table", "model", "bundle", "set", "image", "kind", "text", "boxes", "area", "told", "untold", "lift", "peak_x", "peak_y",
    "text_effect", "variation",
)  # fmt: skip


@contextlib.contextmanager
def _csv(path: Path, columns: Sequence[str]) -> Iterator[Writer]:
    """A table that is there once it is whole."""
    with writing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        yield writer


# Gaze


def gaze_table(evaluation: Evaluation) -> str:
    """The evaluation in lines of about 110 characters."""
    smaller = [name for name, metric in METRICS.items() if metric.smaller_is_better]
    notes = [metric.note for metric in METRICS.values() if metric.note]
    note = (
        f"± is half the 95 % confidence interval, from {evaluation.resamples} bootstrap samples of photos; "
        f"{' and '.join(smaller)} {'is' if len(smaller) == 1 else 'are'} better when smaller.\n"
        f"{' '.join(notes)} Both ends of every interval: --json or --csv."
    )
    return "\n\n".join([*("\n".join(_block(scores)) for scores in evaluation.data), note])


def _block(scores: DataScores) -> list[str]:
    limited = "" if scores.photos == scores.photos_of_split else f" of {scores.photos_of_split}"
    lines = [
        f"{scores.data}, split {scores.split}: {scores.photos}{limited} photos, {scores.pairs} pairs",
    ]
    if scores.baseline_from != "train":
        lines.append("no training photos: the mean map is that of the evaluated photos themselves")
    for model in scores.models:
        lines += ["", *_model(model)]
    return lines


def _model(model: ModelScores) -> list[str]:
    rows = [(condition, row.pairs, *_cells(row.metrics)) for condition, row in model.rows.items()]
    if model.less_first is not None:
        rows.append(("less the first", "", *_cells(model.less_first, signed=True)))
    columns = [("condition", 14), ("pairs", 6), *((metric, 13) for metric in METRICS)]
    lines = [
        f"{model.name} (bundle {model.bundle})" if model.bundle else model.name,
        *text_table(columns, rows),
    ]
    if model.guide is not None:
        lines.append(f"guide {_span(model.guide)}; a model blind to text scores 0.5")
    if model.pointing is not None:
        lines.append(_pointing(model.pointing))
    return lines


def _pointing(game: Pointing) -> str:
    return (
        f"pointing game {_span(game.hits)} of {game.cases} objects in {game.photos} photos; "
        f"without text {_span(game.free_viewing)}, at a random place {game.box_area:.3f}"
    )


def _cells(estimates: Mapping[str, Estimate | None], *, signed: bool = False) -> list[str]:
    return [_cell(estimates[metric], signed=signed) for metric in METRICS]


def _cell(estimate: Estimate | None, *, signed: bool = False) -> str:
    if estimate is None:
        return "-"
    half = f"{(estimate.high - estimate.low) / 2:.3f}".removeprefix("0")
    return f"{estimate.mean:{'+' if signed else ''}.3f} ±{half}"


def _span(value: Estimate | Interval, form: str = ".3f") -> str:
    """A value with its interval in brackets."""
    middle, low, high = value if isinstance(value, tuple) else (value.mean, value.low, value.high)
    return f"{middle:{form}} [{low:.3f}, {high:.3f}]"


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """One line for each data set, model, condition and metric, columns `CSV_COLUMNS`.

    ``metric`` is one of `METRICS`, ``guide``, ``pointing`` or ``pointing-free-viewing``; the last
    three stand under the condition ``all``, and ``pairs`` then counts photos or cases.

    Raises:
        OutputError: the file cannot be written.
    """
    with _csv(path, CSV_COLUMNS) as writer:
        for scores in evaluation.data:
            for model in scores.models:
                for condition, metric, estimate, pairs, photos in _lines(model):
                    writer.writerow(
                        [scores.data, scores.split, model.name, model.bundle or "", condition, metric]
                        + [f"{value:.6f}" for value in (estimate.mean, estimate.low, estimate.high)]
                        + [pairs, photos]
                    )


def _lines(model: ModelScores) -> Iterator[tuple[str, str, Estimate, int, int]]:
    for condition, row in model.rows.items():
        for metric, estimate in row.metrics.items():
            if estimate is not None:
                yield condition, metric, estimate, row.pairs, row.photos
    if model.guide is not None:
        photos = model.guide_photos
        yield ALL, "guide", model.guide, photos, photos
    game = model.pointing
    if game is not None:
        yield ALL, "pointing", game.hits, game.cases, game.photos
        yield ALL, "pointing-free-viewing", game.free_viewing, game.cases, game.photos


# Texts with boxes


def prompt_table(evaluation: PromptEvaluation, worst: int = 20) -> str:
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
        lines += text_table(_PROMPT_COLUMNS, [_prompt_cells(name, row) for name, row in parts])
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


_PROMPT_COLUMNS = (
    ("texts", 26), ("cases", 6), ("photos", 7), ("told", 21), ("untold", 21), ("lift (median)", 21), ("at random", 11), ("box area", 10),
)  # fmt: skip


def _prompt_cells(name: str, row: PromptRow) -> list[str]:
    spans = [_span(value) if value is not None else "-" for value in (row.told, row.untold, row.lift)]
    return [name[:25], str(row.cases), str(row.photos), *spans, f"{row.at_random:.3f}", f"{row.box_area:.3f}"]


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

    best = sorted(nouns, key=lambda n: (-n.told, n.untold - n.told, -n.cases, n.noun))
    heads = (("cases", 5), ("told", 6), ("untold", 8))
    lines = text_table(
        [("worst nouns", 28), *heads, ("", 5), ("best nouns", 28), *heads],
        [
            [*_noun_cells(low), "", *_noun_cells(high)]
            for low, high in zip(nouns[:count], best[:count], strict=True)
        ],
    )
    lines.append(f"({len(nouns)} nouns have {NOUN_CASES} cases or more)")
    return lines


def _noun_cells(noun: Noun) -> list[str]:
    return [noun.noun[:27], str(noun.cases), f"{noun.told:.2f}", f"{noun.untold:.2f}"]


def write_prompt_csv(evaluations: Iterable[PromptEvaluation], path: Path) -> None:
    """One line for each text that was asked, columns `PROMPT_CSV_COLUMNS`; peaks in shares of width and height.

    Raises:
        OutputError: the file cannot be written.
    """
    with _csv(path, PROMPT_CSV_COLUMNS) as writer:
        for evaluation in evaluations:
            for model in evaluation.models:
                for case in model.cases:
                    numbers = (case.lift, *case.peak, case.text_effect, case.variation)
                    writer.writerow(
                        [evaluation.table, model.name, model.bundle or "", *case.photo.split("/", 1), case.kind, case.text]
                        + [format_boxes(case.boxes), f"{case.area:.4f}", int(case.told), int(case.untold)]
                        + ["" if math.isnan(number) else f"{number:.4f}" for number in numbers]
                    )  # fmt: skip


# The paper's tables

GROUPS = ("salient", "nonsalient", "general")
"""Labels of ``--compare`` that fill the tables of the paper's group models."""

NOTE = (
    "Only CC compares: the paper's AUC and sAUC binarise both maps at their top 20 % and its NSS takes every non-zero "
    "pixel of the blurred map for a fixation, while ours are the standard metrics; and 254 of its 270 test items share "
    "a photo with its training, which no photo of a split does here."
)

_COLUMNS = (("AUC", "AUC-Judd"), ("sAUC", "sAUC"), ("CC", "CC"), ("NSS", "NSS"))
_ROWS = {
    "Type 2": "salient",
    "Type 3": "nonsalient",
    "Type 4 & Type 1": GROUPED,
    "Pure": "pure",
    "ALL": ALL,
}
_Figures = tuple[float, float, float, float]

# Figures of the CLIP-SalGan paper, in the order of the columns.
_TABLE_2: dict[str, _Figures] = {
    "Type 2": (0.7631, 0.6317, 0.5485, 0.4188),
    "Type 3": (0.6956, 0.5978, 0.3128, 0.4232),
    "Type 4 & Type 1": (0.7486, 0.6245, 0.5671, 0.3408),
    "Pure": (0.7829, 0.6416, 0.6632, 0.2497),
    "ALL": (0.7521, 0.6262, 0.5489, 0.3389),
}
_TABLE_3_SALIENT: dict[str, _Figures] = {
    "Type 2": (0.6968, 0.5984, 0.3948, 0.2618),
    "Type 3": (0.6393, 0.5695, 0.2165, 0.2504),
    "Pure": (0.7103, 0.6050, 0.4432, 0.1582),
}
_TABLE_3_NONSALIENT: dict[str, _Figures] = {
    "Type 2": (0.6969, 0.5982, 0.4104, 0.2798),
    "Type 3": (0.6379, 0.5688, 0.2354, 0.2763),
    "Pure": (0.7179, 0.6088, 0.4861, 0.1779),
}
_TABLE_4: dict[str, _Figures] = {
    "Pure": (0.7380, 0.6189, 0.5327, 0.2005),
    "Type 4 & Type 1": (0.7179, 0.6090, 0.4759, 0.2574),
}


def paper_tables(scores: DataScores) -> str:
    """Tables II, III and IV on one data set: in each row our figures, under them the paper's.

    The evaluated bundle fills table II. A bundle compared under the label ``salient``,
    ``nonsalient`` or ``general`` fills its place in tables III and IV; the evaluated bundle stands
    in where there is none. Each table says whose figures it shows.
    """
    by_group = {model.name: model for model in scores.models if model.bundle and model.name in GROUPS}
    first = scores.models[0]
    salient, nonsalient, general = (by_group.get(group, first) for group in GROUPS)
    heading = (
        f"{scores.data}, split {scores.split}: {scores.photos} photos, in the form of the paper's tables"
    )
    return "\n\n".join(
        [
            heading,
            _table("Table II, one model for all data", [first], [_TABLE_2]),
            _table(
                "Table III, model of the salient group/of the non-salient group",
                [salient, nonsalient],
                [_TABLE_3_SALIENT, _TABLE_3_NONSALIENT],
            ),
            _table("Table IV, model of the general group", [general], [_TABLE_4]),
            NOTE,
        ]
    )


def _table(title: str, models: Sequence[ModelScores], figures: Sequence[dict[str, _Figures]]) -> str:
    shown = " and ".join(dict.fromkeys(f"{model.name} ({model.bundle})" for model in models))
    rows: list[list[str]] = []
    for row in figures[0]:
        ours = ["/".join(_figure(model, _ROWS[row], metric) for model in models) for _, metric in _COLUMNS]
        paper = ["/".join(f"{group[row][n]:.4f}" for group in figures) for n in range(len(_COLUMNS))]
        rows += [[f"{row:<18}ours", *ours], [f"{'':<18}paper", *paper]]
    columns = [("", 24), *((label, 17) for label, _ in _COLUMNS)]
    return "\n".join([f"{title} (ours: {shown})", *text_table(columns, rows)])


def _figure(model: ModelScores, condition: str, metric: str) -> str:
    row = model.rows.get(condition)
    estimate = row.metrics[metric] if row is not None else None
    return "-" if estimate is None else f"{estimate.mean:.4f}"
