"""The paper's tables II, III and IV in their form, beside the paper's own figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from salgan_edge.evaluate.scores import ALL, GROUPED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salgan_edge.evaluate.scores import DataScores, ModelScores

__all__ = ["GROUPS", "NOTE", "paper_tables"]

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
    lines = [f"{title} (ours: {shown})", f"{'':<24}" + "".join(f"{label:>17}" for label, _ in _COLUMNS)]
    for row in figures[0]:
        ours = ["/".join(_figure(model, _ROWS[row], metric) for model in models) for _, metric in _COLUMNS]
        paper = ["/".join(f"{group[row][n]:.4f}" for group in figures) for n in range(len(_COLUMNS))]
        lines.append(f"{row:<18}{'ours':<6}" + "".join(f"{cell:>17}" for cell in ours))
        lines.append(f"{'':<18}{'paper':<6}" + "".join(f"{cell:>17}" for cell in paper))
    return "\n".join(lines)


def _figure(model: ModelScores, condition: str, metric: str) -> str:
    row = model.rows.get(condition)
    estimate = row.metrics[metric] if row is not None else None
    return "-" if estimate is None else f"{estimate.mean:.4f}"
