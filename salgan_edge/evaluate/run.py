"""`salgan-edge evaluate` as functions: bundles, gaze folders and tables of texts in; scores, tables and pictures out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from salgan_edge.errors import InputError
from salgan_edge.evaluate.measure import evaluate_folder
from salgan_edge.evaluate.models import BundleModel
from salgan_edge.evaluate.pictures import example_photos, example_sheet, prompt_sheet, sheet_cases
from salgan_edge.evaluate.prompts import evaluate_prompts
from salgan_edge.evaluate.report import gaze_table, paper_tables, prompt_table, write_csv, write_prompt_csv
from salgan_edge.evaluate.scores import FORMAT_VERSION, Evaluation
from salgan_edge.gaze.detector import COCO_CLASSES
from salgan_edge.predictor import SaliencyPredictor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from salgan_edge.devices import Execution
    from salgan_edge.evaluate import Baseline
    from salgan_edge.evaluate.models import Model
    from salgan_edge.evaluate.pointing import DetectedBoxes
    from salgan_edge.evaluate.scores import Bootstrap, PromptEvaluation
    from salgan_edge.gaze.folder import GazeFolder
    from salgan_edge.gaze.phrases import PhraseSet

    Pixels = npt.NDArray[np.uint8]
    Progress = Callable[[Sequence[Any]], Iterable[Any]]

__all__ = ["Findings", "evaluate", "example_pictures", "labelled_bundles"]


@dataclass(frozen=True)
class Findings:
    """What one evaluation found."""

    gaze: Evaluation
    prompts: list[PromptEvaluation]
    """One for each table of texts with boxes."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``--json``: `Evaluation.to_dict`, and `PromptEvaluation.to_dict` under ``prompts`` where there are any."""
        prompts = {"prompts": [found.to_dict() for found in self.prompts]} if self.prompts else {}
        return self.gaze.to_dict() | prompts

    def to_text(self, *, worst: int = 20, in_paper_form: bool = False) -> str:
        """Tables for people.

        Args:
            worst: so many of the worst nouns of texts are listed, and as many of the best.
            in_paper_form: adds the paper's tables II, III and IV of each gaze folder.
        """
        shown = [gaze_table(self.gaze)] if self.gaze.data else []
        shown += [prompt_table(found, worst) for found in self.prompts]
        shown += [paper_tables(scores) for scores in self.gaze.data if in_paper_form]
        return "\n\n".join(shown)

    def write_csv(self, path: Path) -> None:
        """A table of the means on gaze, or of texts one by one; of both, the second in ``PATH-prompts``.

        Raises:
            OutputError: a file cannot be written.
        """
        if self.gaze.data:
            write_csv(self.gaze, path)
        if self.prompts:
            write_prompt_csv(self.prompts, path.with_stem(f"{path.stem}-prompts") if self.gaze.data else path)


def labelled_bundles(
    bundle: Path | None, compare: Sequence[tuple[str, Path]], execution: Execution
) -> list[BundleModel]:
    """Load bundles to evaluate, the first of which the others are compared with.

    Args:
        bundle: ``default``, ``small``, a folder or a ``.salgan`` file; None is the default bundle.
        compare: label and bundle of the others; an empty label stands for the bundle's name.
        execution: where they run.

    Raises:
        InputError: a label occurs twice.
        BundleError: a bundle cannot be used.
    """
    models: list[BundleModel] = []
    for label, place in [("", bundle), *compare]:
        predictor = SaliencyPredictor.load(place, execution=execution)
        name = label or predictor.bundle.manifest.name
        if any(model.name == name for model in models):
            if label:
                raise InputError(f"the label {label} occurs twice")
            name = f"{name} {predictor.bundle.manifest.bundle_id}"
        models.append(BundleModel(predictor, name))
    return models


def evaluate(
    models: Sequence[Model],
    folders: Sequence[GazeFolder],
    tables: Sequence[PhraseSet],
    split: str,
    bootstrap: Bootstrap,
    *,
    baselines: Sequence[Baseline] = (),
    boxes: DetectedBoxes | None = None,
    all_wordings: bool = False,
    limit: int | None = None,
    progress: Progress = lambda items: items,
) -> Findings:
    """Score models on gaze folders (`evaluate_folder`) and on tables of texts with boxes (`evaluate_prompts`).

    Args:
        models: the first is what the others are compared with.
        folders: gaze data.
        tables: texts with boxes.
        split: ``train``, ``validation``, ``test`` or ``all``.
        bootstrap: how intervals are made.
        baselines: also scored on gaze.
        boxes: detector for the pointing game on the photos of gaze; its cache is saved.
        all_wordings: ask all wordings of a row of texts and average, in place of the first.
        limit: use this many photos of each, spread over the split.
        progress: wraps the lists of photos, to show progress.

    Raises:
        DataError: a split is empty, or a file cannot be used.
    """
    data = [
        evaluate_folder(
            models, folder, split, bootstrap, baselines=baselines, boxes=boxes, limit=limit, progress=progress
        )
        for folder in folders
    ]
    if boxes is not None:
        boxes.save()
    prompts = [
        evaluate_prompts(
            models,
            table,
            split,
            bootstrap,
            all_wordings=all_wordings,
            common=COCO_CLASSES,
            limit=limit,
            progress=progress,
        )
        for table in tables
    ]
    return Findings(Evaluation(FORMAT_VERSION, bootstrap.resamples, bootstrap.seed, data), prompts)


def example_pictures(
    models: Sequence[Model],
    folders: Sequence[GazeFolder],
    tables: Sequence[PhraseSet],
    findings: Findings,
    split: str,
    count: int,
) -> Pixels:
    """Examples of each folder and table, one sheet below the other, RGB uint8.

    Args:
        models: what was evaluated.
        folders: gaze data that was evaluated; so for `tables`.
        tables: texts with boxes.
        findings: of `evaluate`; tells hits from misses.
        split: the split that was evaluated.
        count: photos of each folder and table.
    """
    parts = [example_sheet(models, folder, example_photos(folder, split, count)) for folder in folders]
    parts += [
        prompt_sheet(models, table, sheet_cases(found.models[0].cases, count))
        for table, found in zip(tables, findings.prompts, strict=True)
    ]
    width = max(part.shape[1] for part in parts)
    return np.concatenate([_widened(part, width) for part in parts])


def _widened(picture: Pixels, width: int) -> Pixels:
    """A picture with white to its right."""
    return np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)), constant_values=255)
