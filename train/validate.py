"""Validation while training: CC by condition, `guide`, the content loss and pointing, on the network's own grid.

Figures to report come from `salgan-edge evaluate`, which runs the exported bundle at full size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from salgan_edge.train.data.samples import to_grid
from salgan_edge.train.losses import cast_text, content_terms, density

from salgan_edge.evaluate.pointing import inside, peak
from salgan_edge.gaze.folder import photos
from salgan_edge.metrics import cc, guide

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from salgan_edge.train.config import TrainConfig
    from salgan_edge.train.losses import Prediction
    from salgan_edge.train.networks.generator import Generator

    from salgan_edge.gaze.folder import GazeFolder, GazePair
    from salgan_edge.gaze.phrases import Box, PhraseSet

    Floats = npt.NDArray[np.float32]

__all__ = ["POINTING", "Validation"]

POINTING = ("noun", "attr", "rel")
"""Kinds of ``labels.csv``, under which `Validation` tells the share of peaks in the named boxes."""


_LARGEST = 0.6
"""Things that cover more of the photo than this are no test of pointing."""


@dataclass(frozen=True)
class _Photo:
    """One photo with its N pairs."""

    pairs: list[GazePair]
    pixels: npt.NDArray[np.uint8]
    text: torch.Tensor
    """(N, dimension)."""
    human: Floats
    """Maps (N, grid, grid), largest value 1."""
    fixations: Floats
    """Counts (N, grid, grid)."""


@dataclass(frozen=True)
class _Labelled:
    """One photo with N named things."""

    pixels: npt.NDArray[np.uint8]
    text: torch.Tensor
    """(N, dimension)."""
    kinds: list[str]
    boxes: list[tuple[Box, ...]]


class Validation:
    """The validation split of one gaze folder and of texts with boxes, ready to be scored again and again."""

    def __init__(
        self,
        folder: GazeFolder,
        resize: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]],
        encode: Callable[[Sequence[str]], Floats],
        config: TrainConfig,
        grid: int,
        labels: PhraseSet | None = None,
    ) -> None:
        self._config = config
        self._labelled = [] if labels is None else _labelled(labels, resize, encode)
        self._photos = []
        for pairs in photos(folder.select("validation")).values():
            vectors = np.zeros((len(pairs), 512), np.float32)
            given = [n for n, pair in enumerate(pairs) if pair.text]
            if given:
                vectors[given] = encode([pairs[n].text for n in given])
            self._photos.append(
                _Photo(
                    pairs,
                    resize(folder.image(pairs[0].image)),
                    cast_text(torch.from_numpy(vectors), config.text_cast),
                    np.stack([to_grid(folder.saliency_map(pair), grid) for pair in pairs]),
                    np.stack([folder.fixation_map(pair, (grid, grid)) for pair in pairs]).astype(np.float32),
                )
            )

    @torch.inference_mode()
    def score(self, model: Generator) -> tuple[dict[str, float], float]:
        """CC over all pairs (``all``) and by condition, and ``guide``; the content loss over all pairs."""
        model.eval()
        device = next(model.parameters()).device
        by_condition: dict[str, list[float]] = {}
        losses: list[torch.Tensor] = []
        opposed = []
        for photo in self._photos:
            pixels = model.preprocess(torch.from_numpy(photo.pixels)[None].to(device))
            predicted = model.predict(pixels, photo.text[None].to(device))
            losses.append(self._content_loss(predicted, photo).flatten())
            maps = {
                pair.condition: (p, h)
                for pair, p, h in zip(photo.pairs, predicted.map[0].cpu().numpy(), photo.human, strict=True)
            }
            for condition, (p, h) in maps.items():
                by_condition.setdefault(condition, []).append(cc(p, h))
            if "salient" in maps and "nonsalient" in maps:
                first, second = maps["salient"], maps["nonsalient"]
                opposed.append((first[0], second[0], first[1], second[1]))
        scores = {"all": float(np.mean([value for values in by_condition.values() for value in values]))}
        scores |= {condition: float(np.mean(values)) for condition, values in sorted(by_condition.items())}
        if opposed:
            scores["guide"] = guide(opposed)
        scores |= self._pointing(model)
        return scores, float(torch.cat(losses).mean())

    def _pointing(self, model: Generator) -> dict[str, float]:
        """Share of texts, by kind, whose map has its peak in a box of what they name."""
        device = next(model.parameters()).device
        hits: dict[str, list[bool]] = {}
        for photo in self._labelled:
            pixels = model.preprocess(torch.from_numpy(photo.pixels)[None].to(device))
            maps = model.predict(pixels, photo.text[None].to(device)).map[0].cpu().numpy()
            for kind, boxes, values in zip(photo.kinds, photo.boxes, maps, strict=True):
                hits.setdefault(kind, []).append(inside(peak(values), boxes))
        return {kind: float(np.mean(found)) for kind, found in sorted(hits.items())}

    def _content_loss(self, predicted: Prediction, photo: _Photo) -> torch.Tensor:
        device = predicted.log_map.device
        human = density(torch.from_numpy(photo.human))[None].to(device)
        fixations = torch.from_numpy(photo.fixations)[None].to(device)
        weights = self._config.content_weights()
        terms = content_terms(predicted, human, fixations, weights)
        total = torch.zeros(human.shape[:2], device=device)
        for name, term in terms.items():
            total += weights[name] * term
        return total


def _labelled(
    labels: PhraseSet,
    resize: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]],
    encode: Callable[[Sequence[str]], Floats],
) -> list[_Labelled]:
    """The validation photos of a table, each text in its first wording."""
    found = []
    for name, phrases in labels.select("validation").items():
        asked = [phrase for phrase in phrases if phrase.boxes and phrase.area <= _LARGEST]
        if asked:
            vectors = torch.from_numpy(encode([phrase.texts[0] for phrase in asked]))
            kinds, boxes = [phrase.kind for phrase in asked], [phrase.boxes for phrase in asked]
            found.append(_Labelled(resize(labels.image(name)), vectors, kinds, boxes))
    return found
