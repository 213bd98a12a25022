"""Training sets of the generator: photos with several prompts, vectors and target maps, or single pairs.

`TrainingSet` draws prompts and views of each photo; `PairSet` shows every pair of photo and text once
an epoch and unchanged, as the paper does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from salgan_edge.train.data.augment import draw_view, recoloured
from salgan_edge.train.data.named import TARGETS, Named, box_map, object_map, prompts_for, texts_of
from salgan_edge.train.losses import density
from salgan_edge.train.networks.edge import domain_of

from salgan_edge.gaze.detector import COCO_CLASSES, class_prompt
from salgan_edge.gaze.folder import photos
from salgan_edge.gaze.phrases import mirrored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt
    from salgan_edge.train.config import TrainConfig
    from salgan_edge.train.data.augment import Composites
    from salgan_edge.train.data.text_vectors import TextVectors

    from salgan_edge.gaze.detector import Detection
    from salgan_edge.gaze.folder import GazeFolder

    Floats = npt.NDArray[np.float32]

__all__ = ["Batch", "PairSet", "Photo", "TrainingSet"]

_OBJECT_AREA = (0.004, 0.6)
_ABSENT_SHARE = 0.15
_PAIR_SHARE = 0.15
_TRUE_VECTOR_SHARE = 0.4
_TEACHER_SHARE = 0.25
_MAP_DETAIL = 2
"""Cells of a stored map for each cell of the grid, so that a view that zooms in stays sharp."""
_ABSENT_WEIGHT = 0.3
"""Loss weight of a text about something absent, as a share of a named thing's."""
_PASTED = 0.1
"""Share of the draws of photos without texts of their own gaze in which things are pasted on them."""
_COMPOSITE = "composite"
_SHORTENED = 6
_DROPPED = 0.2
_SMALL_WORDS = frozenset(
    ("a", "an", "as", "at", "by", "in", "is", "it", "of", "on", "or", "to", "up", "the", "and", "with", "for", "from", "under", "behind", "next", "left", "right", "top", "bottom", "front", "middle", "far",
     "near", "this", "that", "his", "her", "its", "two", "three", "one", "which", "who", "what", "into", "over", "above", "below")
)  # fmt: skip


@dataclass
class Photo:
    """One photo with all that it can be asked."""

    name: str
    """Of its folder and file, ``sjtu_tis/000000000071``."""
    domain: int
    pixels: npt.NDArray[np.uint8]
    """RGB (S, S, 3), at least as large as the network's input."""
    gaze: list[tuple[str, Floats]]
    """Texts and human maps (G, G), finer than the grid; the empty text is free viewing and comes first."""
    named: list[Named] = field(default_factory=list)
    """Things that texts name in it, with their boxes."""
    weight: float = 1.0
    """Loss weight of its gaze."""
    free_weight: float | None = None
    """Loss weight of its free viewing, where that is another: a teacher's, not people's."""
    objects: dict[str, list[Detection]] = field(default_factory=dict)
    """Objects by class, of a fitting size."""
    seen: set[str] | None = None
    """Classes detected at any size; None where no detector looked."""
    fixations: dict[str, Floats] = field(default_factory=dict)
    """Fixation counts (G, G) by text of `gaze`; empty unless a loss needs them."""
    taught: dict[str, Floats] = field(default_factory=dict)
    """What teachers predict (G, G) for the name of each class in `objects`; empty without teachers."""
    taught_share: float = 0.0
    """Share of that in an object's target."""


@dataclass(frozen=True)
class Batch:
    """One training step: B photos, N prompts each."""

    pixels: torch.Tensor
    """uint8 (B, size, size, 3)."""
    text: torch.Tensor
    """(B, N, dimension)."""
    target: torch.Tensor
    """Densities (B, N, grid, grid)."""
    weight: torch.Tensor
    """Loss weights (B, N)."""
    domain: torch.Tensor
    """Number of each prompt's viewing (B, N), see `domain_of`."""
    fixations: torch.Tensor | None = None
    """Fixation counts (B, N, grid, grid), all zero for object prompts; None unless a loss needs them."""


class TrainingSet:
    """Draws batches: human pairs first, then things that texts name, then objects that a detector found.

    Photos of the first gaze folder come `human_repeats` times an epoch, the others once, and
    `composites` made-up photos are added.

    Args:
        folders: gaze folders; the first is the product's, and the names are those of `DOMAINS`.
        detections: objects by ``folder/photo``; a photo that is missing was not looked at.
        resize: photo (H, W, 3) to a square (S, S, 3) that views are cut from, resampled as the graph does it.
        encode: texts to vectors (n, dimension) with the text encoder that will be shipped.
        true: true CLIP vectors, used in place of the encoder's for a share of the class prompts.
        teacher: vectors that the encoder was distilled from, used for a share of the captions.
        config: see `TrainConfig`.
        grid: side of the target maps in cells.
        named: things that texts name, by ``folder/photo``.
        others: photos that no gaze folder has, brought to a square already, with free viewing that
            was made up for them.
        composites: makes photos of single things; None where there are none.
    """

    def __init__(
        self,
        folders: Sequence[GazeFolder],
        detections: Mapping[str, list[Detection]],
        resize: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]],
        encode: Callable[[Sequence[str]], Floats],
        true: TextVectors,
        teacher: TextVectors,
        config: TrainConfig,
        grid: int,
        *,
        named: Mapping[str, list[Named]] = MappingProxyType({}),
        others: Sequence[Photo] = (),
        composites: Composites | None = None,
    ) -> None:
        self._config = config
        self._grid = grid
        self._composites = composites
        self.photos: list[Photo] = []
        detail = _MAP_DETAIL * grid
        for folder in folders:
            for name, pairs in photos(folder.select("train")).items():
                ordered = sorted(pairs, key=lambda pair: pair.text != "")
                photo = Photo(
                    name=f"{folder.name}/{name}",
                    domain=domain_of(folder.name, config.product),
                    pixels=resize(folder.image(name)),
                    gaze=[(pair.text, to_grid(folder.saliency_map(pair), detail)) for pair in ordered],
                    named=named.get(f"{folder.name}/{name}", []),
                    weight=1.0 if folder is folders[0] else config.free_view_weight,
                )
                if config.nss > 0:
                    photo.fixations = {
                        pair.text: folder.fixation_map(pair, (detail, detail)).astype(np.float32)
                        for pair in ordered
                    }
                self.photos.append(photo)
        self._repeated = len(self.photos) if len(folders) == 1 else self._of_first(folders[0].name)
        self.photos += others
        for photo in self.photos:
            detected = detections.get(photo.name)
            photo.seen = None if detected is None else {found.name for found in detected}
            for found in detected or []:
                if _OBJECT_AREA[0] <= found.area <= _OBJECT_AREA[1]:
                    photo.objects.setdefault(found.name, []).append(found)
        # Free viewing of composites: nobody saw them, so it is that of the average photo.
        self._mean_view = np.mean([photo.gaze[0][1] for photo in self.photos[: self._repeated]], axis=0)
        self._mean_view = (self._mean_view / self._mean_view.max()).astype(np.float32)
        captions = {text for photo in self.photos for text, _ in photo.gaze if text}
        captions |= {mirrored(text) for text in captions}
        texts = captions | {
            text for name in COCO_CLASSES for count in (1, 2, 3) for text in prompts_for(name, count)
        }
        for photo in self.photos:
            names = sorted(photo.objects)
            texts |= {_both(a, b) for a in names for b in names if a != b}
        things = [thing for photo in self.photos for thing in photo.named]
        things += composites.named if composites is not None else []
        texts |= texts_of(things)
        # Texts for photos in which they name nothing, each with its words.
        self._elsewhere = [
            (thing.texts[0], _words(thing.texts)) for photo in self.photos for thing in photo.named
        ]
        ordered_texts = sorted(texts)
        self._vectors: dict[str, Floats] = dict(zip(ordered_texts, encode(ordered_texts), strict=True))
        self._shortened = (
            _shortened([text for text in captions if text], encode, config.seed)
            if config.drop_words > 0
            else {}
        )
        self._true: dict[str, Floats] = dict(zip(true.texts, true.vectors, strict=True))
        self._teacher: dict[str, Floats] = dict(zip(teacher.texts, teacher.vectors, strict=True))
        self._dimension = true.vectors.shape[1]

    def batches(self, random: np.random.Generator) -> list[list[int]]:
        """One epoch: indices of the photos of each step; those beyond `photos` are composites."""
        extra = self._config.composites if self._composites is not None else 0
        places = [
            *range(len(self.photos)),
            *(n for _ in range(self._config.human_repeats - 1) for n in range(self._repeated)),
            *range(len(self.photos), len(self.photos) + extra),
        ]
        order = random.permutation(np.array(places))
        return [list(part) for part in np.array_split(order, max(1, len(order) // self._config.batch_size))]

    def questions(self, photo: Photo) -> tuple[list[str], Floats, npt.NDArray[np.int64]]:
        """What can be asked about a photo: texts of gaze, then names of its objects.

        Returns:
            The texts, their vectors (n, dimension) and domains (n,).
        """
        texts = [text for text, _ in photo.gaze]
        names = [class_prompt(name) for name in sorted(photo.objects)]
        none = np.zeros(self._dimension, np.float32)
        rows = [self._vectors[text] if text else none for text in texts]
        rows += [self._vectors[name] for name in names]
        domains = np.array([photo.domain] * len(texts) + [0] * len(names), np.int64)
        return texts + names, np.stack(rows), domains

    def soften(self, photo: Photo, densities: Floats, share: float) -> None:
        """Mix predictions into a photo's targets.

        Args:
            photo: one of `photos`.
            densities: predicted densities (n, G, G), one for each of `questions`.
            share: of the prediction in the mixture, 0..1.
        """
        gaze = len(photo.gaze)
        photo.gaze = [
            (text, _mixed(target, predicted, share))
            for (text, target), predicted in zip(photo.gaze, densities[:gaze], strict=True)
        ]
        photo.taught = dict(zip(sorted(photo.objects), densities[gaze:], strict=True))
        photo.taught_share = share

    def batch(self, chosen: Sequence[int], random: np.random.Generator) -> Batch:
        """Draw prompts, views, colours and noise for the chosen photos."""
        rows = [self._draw(self._photo(index, random), random) for index in chosen]
        return Batch(
            pixels=torch.from_numpy(np.stack([row.pixels for row in rows])),
            text=torch.from_numpy(np.stack([row.vectors for row in rows])),
            target=density(torch.from_numpy(np.stack([row.targets for row in rows]))),
            weight=torch.from_numpy(np.stack([row.weights for row in rows])),
            domain=torch.from_numpy(np.stack([row.domains for row in rows])),
            fixations=torch.from_numpy(np.stack([row.fixations for row in rows]))
            if self._config.nss > 0
            else None,
        )

    def _photo(self, index: int, random: np.random.Generator) -> Photo:
        """The photo of an index, now and then with things pasted on it; or a composite."""
        if index >= len(self.photos):
            assert self._composites is not None
            scene = self._composites.scene(random)
            return Photo(_COMPOSITE, 0, scene.pixels, [("", self._mean_view)], scene.named, weight=0.0)
        photo = self.photos[index]
        if self._composites is None or len(photo.gaze) > 1 or random.random() >= _PASTED:
            return photo
        pasted = self._composites.paste(photo.pixels, photo.named, random)
        if pasted is None:
            return photo
        # Nobody looked at this photo: its free viewing only lends the share that all targets have.
        return Photo(photo.name, 0, pasted.pixels, photo.gaze[:1], pasted.named, weight=0.0)

    def _draw(self, photo: Photo, random: np.random.Generator) -> _Drawn:
        config = self._config
        flip = bool(random.random() < 0.5)
        gaze = (
            photo.gaze
            if len(photo.gaze) <= config.prompts
            else [photo.gaze[0], *_some(photo.gaze[1:], random)]
        )[: config.prompts]
        drawn: list[tuple[Floats, Floats, float]] = []
        for text, target in gaze:
            vector = self._caption_vector(mirrored(text) if flip else text, random)
            free = not text and photo.free_weight is not None
            drawn.append((vector, target, photo.free_weight if free else photo.weight))  # type: ignore[arg-type]
        # A composite has nothing else to ask.
        most = config.prompts if photo.name == _COMPOSITE else config.named_prompts
        room = min(most, config.prompts - len(drawn))
        drawn += [self._named(photo, photo.named[n], flip, random)
                  for n in random.permutation(len(photo.named))[:room]]  # fmt: skip
        while len(drawn) < config.prompts:
            drawn.append(self._filling(photo, drawn[0], random))
        vectors = np.stack([vector for vector, _, _ in drawn])
        noise = random.normal(0, config.text_noise, vectors.shape).astype(np.float32)
        vectors = np.where(np.any(vectors != 0, axis=1, keepdims=True), vectors + noise, vectors)
        # Fixations go through the same changes, behind the targets; none belong to boxes.
        maps = np.stack([target for _, target, _ in drawn])
        if photo.fixations:
            counts = [photo.fixations[text] for text, _ in gaze]
            counts += [np.zeros_like(maps[0])] * (config.prompts - len(counts))
            maps = np.concatenate((maps, counts))
        elif config.nss > 0:
            maps = np.concatenate((maps, np.zeros_like(maps)))
        view = draw_view(config, random, mirrored=flip)
        seen = view.maps(maps, self._grid)
        # A view without any gaze says nothing: show the whole photo.
        if float(seen[: config.prompts].sum(axis=(1, 2)).min()) < 1:
            view = draw_view(config, random, mirrored=flip, whole=True)
            seen = view.maps(maps, self._grid)
        domains = np.zeros(config.prompts, np.int64)
        # The gaze's is its data set's; what boxes say is asked of the product.
        domains[: len(gaze)] = photo.domain
        return _Drawn(
            pixels=recoloured(view.pixels(photo.pixels, config.size), config.colour, random),
            vectors=vectors,
            targets=seen[: config.prompts],
            weights=np.array([weight for _, _, weight in drawn], np.float32),
            domains=domains,
            fixations=seen[config.prompts :],
        )

    def _of_first(self, name: str) -> int:
        """Number of photos of the first data set, which come first."""
        return sum(photo.name.startswith(f"{name}/") for photo in self.photos)

    def _named(
        self, photo: Photo, thing: Named, flip: bool, random: np.random.Generator
    ) -> tuple[Floats, Floats, float]:
        """What one of a thing's texts asks for."""
        text = thing.texts[int(random.integers(len(thing.texts)))]
        target = box_map(thing.boxes, photo.gaze[0][1], TARGETS["people"])
        return self._text_vector(mirrored(text) if flip else text, random), target, self._config.named_weight

    def _filling(
        self, photo: Photo, first: tuple[Floats, Floats, float], random: np.random.Generator
    ) -> tuple[Floats, Floats, float]:
        """A prompt for a free place: a detected object, or something absent."""
        absent = bool(random.random() < _ABSENT_SHARE)
        if photo.named and self._elsewhere and (absent or photo.seen is None):
            here = {word for thing in photo.named for word in _words(thing.texts)} | _words(photo.seen or ())
            text, words = self._elsewhere[int(random.integers(len(self._elsewhere)))]
            # Without a detector nothing is known of other objects; the free place then counts nothing.
            weight = self._config.named_weight * _ABSENT_WEIGHT if not here & words else 0.0
            return self._text_vector(text, random), photo.gaze[0][1], weight
        if photo.seen is None:
            return (*first[:2], 0.0)
        return self._object(photo, photo.seen, random)

    def _text_vector(self, text: str, random: np.random.Generator) -> Floats:
        """The shipped encoder's vector, or the true one where it is known, for a share of the draws."""
        if text in self._true and random.random() < _TRUE_VECTOR_SHARE:
            return self._true[text]
        return self._vectors[text]

    def _caption_vector(self, text: str, random: np.random.Generator) -> Floats:
        if not text:
            return np.zeros(self._dimension, np.float32)
        if text in self._teacher and random.random() < _TEACHER_SHARE:
            return self._teacher[text]
        if random.random() < self._config.drop_words:
            shortened: Floats = self._shortened[text][random.integers(_SHORTENED)]
            return shortened
        return self._vectors[text]

    def _object(
        self, photo: Photo, seen: set[str], random: np.random.Generator
    ) -> tuple[Floats, Floats, float]:
        """An object prompt: something there, two things there, or something absent."""
        free = photo.gaze[0][1]
        names = sorted(photo.objects)
        weight = self._config.object_weight
        if not names or random.random() < _ABSENT_SHARE:
            absent = [name for name in COCO_CLASSES if name not in seen]
            return self._object_vector(str(random.choice(absent)), 1, random), free, weight / 2
        if len(names) > 1 and random.random() < _PAIR_SHARE:
            first, second = (str(name) for name in random.choice(names, 2, replace=False))
            boxes = photo.objects[first] + photo.objects[second]
            return self._vectors[_both(first, second)], self._target(boxes, free), weight
        name = str(random.choice(names))
        boxes = photo.objects[name]
        target = self._target(boxes, free)
        if photo.taught:
            target = _mixed(target, photo.taught[name], photo.taught_share)
        return self._object_vector(name, len(boxes), random), target, weight

    def _target(self, boxes: list[Detection], free: Floats) -> Floats:
        if self._config.object_target in TARGETS:
            return box_map([found.box for found in boxes], free, TARGETS[self._config.object_target])
        return object_map(boxes, free, gaze=self._config.object_target == "gaze")

    def _object_vector(self, name: str, count: int, random: np.random.Generator) -> Floats:
        if random.random() < _TRUE_VECTOR_SHARE:
            return self._true[class_prompt(name)]
        return self._vectors[str(random.choice(prompts_for(name, count)))]


@dataclass(frozen=True)
class _Drawn:
    """One photo of a batch: what `Batch` holds, without the first axis."""

    pixels: npt.NDArray[np.uint8]
    vectors: Floats
    targets: Floats
    weights: Floats
    domains: npt.NDArray[np.int64]
    fixations: Floats


def _words(texts: Iterable[str]) -> frozenset[str]:
    """Words that may name things, without articles and places, and what they may be the plurals of."""
    words = {word.strip(".,").lower() for text in texts for word in text.split()}
    words = {word for word in words if len(word) > 1 and word not in _SMALL_WORDS}
    # "buses", "dishes" and "glasses" as well as "horses": rather one form too many.
    words |= {word[:-2] for word in words if word.endswith("es")} | {word.removesuffix("s") for word in words}
    return frozenset(words)


def _mixed(target: Floats, predicted: Floats, share: float) -> Floats:
    """Two maps mixed as densities; the largest value is 1."""
    mixture = (1 - share) * target / target.sum() + share * predicted / predicted.sum()
    largest_one: Floats = (mixture / mixture.max()).astype(np.float32)
    return largest_one


def to_grid(values: Floats, grid: int) -> Floats:
    """A map (h, w) averaged into (grid, grid) cells, largest value 1."""
    planes = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    small = torch.nn.functional.interpolate(planes, (grid, grid), mode="bilinear", antialias=True)[0, 0]
    return (small / small.max()).numpy()


def _some(gaze: list[tuple[str, Floats]], random: np.random.Generator) -> list[tuple[str, Floats]]:
    return [gaze[n] for n in random.permutation(len(gaze))]


def _shortened(
    captions: Sequence[str], encode: Callable[[Sequence[str]], Floats], seed: int
) -> dict[str, Floats]:
    """For each caption, vectors (_SHORTENED, dimension) of it with about a fifth of its words left out."""
    random = np.random.default_rng(seed)
    texts = []
    for caption in sorted(captions):
        words = caption.split()
        for _ in range(_SHORTENED):
            kept = [word for word in words if random.random() > _DROPPED]
            texts.append(" ".join(kept or words))
    distinct = sorted(set(texts))
    rows = dict(zip(distinct, encode(distinct), strict=True)) if distinct else {}
    return {
        caption: np.stack([rows[text] for text in texts[_SHORTENED * n : _SHORTENED * (n + 1)]])
        for n, caption in enumerate(sorted(captions))
    }


def _both(first: str, second: str) -> str:
    return f"{class_prompt(first)} and {class_prompt(second)}"


class PairSet:
    """Draws batches of single pairs, B of them with one prompt each.

    Args:
        folders: gaze folders; their names are those of `DOMAINS`.
        resize: photo (H, W, 3) to the network's input (size, size, 3), as the graph does it.
        encode: texts to vectors (n, dimension).
        config: see `TrainConfig`.
        grid: side of the target maps in cells.
    """

    def __init__(
        self,
        folders: Sequence[GazeFolder],
        resize: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]],
        encode: Callable[[Sequence[str]], Floats],
        config: TrainConfig,
        grid: int,
    ) -> None:
        self._config = config
        self._pairs = [(folder, pair) for folder in folders for pair in folder.select("train")]
        self._pixels = {
            key: resize(folder.image(key[1]))
            for key, folder in {(f.name, pair.image): f for f, pair in self._pairs}.items()
        }
        self._maps = [to_grid(folder.saliency_map(pair), grid) for folder, pair in self._pairs]
        self._fixations = [
            folder.fixation_map(pair, (grid, grid)).astype(np.float32) for folder, pair in self._pairs
        ]
        texts = sorted({pair.text for _, pair in self._pairs if pair.text})
        vectors = encode(texts)
        self._vectors = dict(zip(texts, vectors, strict=True))
        self._no_text = np.zeros(vectors.shape[1], np.float32)

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._pairs)

    def batches(self, random: np.random.Generator) -> list[list[int]]:
        """One epoch: indices of the pairs of each step."""
        order = random.permutation(len(self))
        return [list(part) for part in np.array_split(order, max(1, len(order) // self._config.batch_size))]

    def batch(self, chosen: Sequence[int], random: np.random.Generator) -> Batch:
        """The chosen pairs, nothing changed; texts get noise if the configuration says so."""
        vectors = []
        for index in chosen:
            text = self._pairs[index][1].text
            noise = random.normal(0, self._config.text_noise, self._no_text.shape).astype(np.float32)
            vectors.append(self._vectors[text] + noise if text else self._no_text)
        folders = [self._pairs[index][0].name for index in chosen]
        weights = [1.0 if name == self._config.product else self._config.free_view_weight for name in folders]
        return Batch(
            pixels=torch.from_numpy(
                np.stack([self._pixels[self._pairs[i][0].name, self._pairs[i][1].image] for i in chosen])
            ),
            text=torch.from_numpy(np.stack(vectors)[:, None]),
            target=density(torch.from_numpy(np.stack([self._maps[i] for i in chosen])[:, None])),
            weight=torch.tensor(weights)[:, None],
            domain=torch.tensor([[domain_of(name, self._config.product)] for name in folders]),
            fixations=torch.from_numpy(np.stack([self._fixations[i] for i in chosen])[:, None]),
        )
