"""Learning from trained generators: their mean prediction softens the targets of a new one.

After Hinton et al., "Distilling the knowledge in a neural network", arXiv 1503.02531, with one
difference: a teacher says nothing about photos that it learned by heart. Trained with one third of
the photos left out (`TrainConfig.leave_out`), it teaches about that third alone; three of them, one
for each third, teach about every photo what can be predicted of its gaze without having seen it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from salgan_edge.train.checkpoint import load_generator
from salgan_edge.train.networks.edge import EdgeGenerator

from salgan_edge.errors import CheckpointError
from salgan_edge.files import writing
from salgan_edge.gaze.folder import third

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from salgan_edge.train.data.samples import TrainingSet

    Floats = npt.NDArray[np.float32]

__all__ = ["Teachers", "read_maps", "soften", "write_maps"]


class Teachers:
    """Trained `edge` generators, which may differ in size and fusion.

    Args:
        paths: their checkpoints.

    Raises:
        CheckpointError: one is missing, damaged or of another preset.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._models: list[tuple[EdgeGenerator, str]] = []
        for path in paths:
            model, description = load_generator(path)
            if not isinstance(model, EdgeGenerator):
                raise CheckpointError(f"teacher {path} is of preset {description.preset}: edge was expected")
            left_out = description.training.get("config", {}).get("leave_out", "nothing")
            self._models.append((model, left_out))

    def about(self, name: str) -> list[EdgeGenerator]:
        """The teachers of a photo: those that left it out, and those that left nothing out.

        Args:
            name: of the photo, without its data set.
        """
        return [model for model, left_out in self._models if left_out in ("nothing", third(name))]

    @staticmethod
    @torch.inference_mode()
    def maps(
        models: Sequence[EdgeGenerator],
        photo: npt.NDArray[np.uint8],
        vectors: Floats,
        domains: npt.NDArray[np.int64],
        side: int,
    ) -> Floats:
        """Mean predicted densities (n, side, side), for the photo and its mirror image.

        The mirror image is shown with the same texts; "left" and "right" cancel out there, which
        the human targets make up for.

        Args:
            models: see `about`; at least one.
            photo: RGB (S, S, 3).
            vectors: text vectors (n, dimension).
            domains: index into `DOMAINS` for each text (n,).
            side: of the result in cells.
        """
        image = torch.from_numpy(photo)[None]
        both = torch.cat((image, image.flip(2)))
        text = torch.from_numpy(vectors)[None].expand(2, -1, -1)
        domain = torch.from_numpy(domains)[None].expand(2, -1)
        total = torch.zeros(len(vectors), side, side)
        for model in models:
            logits = model.logits(model.preprocess(both), text, domain)
            density = torch.softmax(logits.flatten(-2), dim=-1).reshape(logits.shape)
            mean = (density[0] + density[1].flip(-1)) / 2
            total += torch.nn.functional.interpolate(mean[None], (side, side), mode="bilinear")[0]
        densities: Floats = (total / total.sum(dim=(-2, -1), keepdim=True)).numpy()
        return densities


def read_maps(cache: Path) -> dict[str, Floats]:
    """Maps by the name of the photo that `write_maps` kept; none where there is no file."""
    if not cache.exists():
        return {}
    with np.load(cache) as file:
        return {name: file[name] for name in file.files}


def write_maps(cache: Path, maps: Mapping[str, Floats]) -> None:
    """Keep maps in an ``.npz`` file."""
    with writing(cache) as temporary:
        # The annotation gives all names that are not its own the type of a switch.
        np.savez(temporary, **maps)  # type: ignore[arg-type]


def soften(training: TrainingSet, teachers: Sequence[Path], share: float, cache: Path) -> None:
    """Mix the teachers' maps into the targets of a training set.

    Args:
        training: its targets are changed.
        teachers: checkpoints.
        share: of the teachers' density in a target, 0..1.
        cache: ``.npz`` file that keeps the maps, so that a resumed training need not make them again.

    Raises:
        CheckpointError: a teacher does not fit, or none is left to teach about a photo.
    """
    # Photos without gaze have their free viewing from teachers already.
    photos = [photo for photo in training.photos if photo.free_weight is None]
    names = [photo.name for photo in photos]
    kept = read_maps(cache)
    if set(kept) != set(names):
        ensemble = Teachers(teachers)
        kept = {}
        for photo in photos:
            _, vectors, domains = training.questions(photo)
            side = photo.gaze[0][1].shape[0]
            models = ensemble.about(photo.name.split("/")[-1])
            if not models:
                raise CheckpointError(
                    f"all teachers were trained on {photo.name}: give one for each third that was left out"
                )
            maps = ensemble.maps(models, photo.pixels, vectors, domains, side)
            kept[photo.name] = maps.astype(np.float16)
        write_maps(cache, kept)
    for photo in photos:
        training.soften(photo, kept[photo.name].astype(np.float32), share)
