"""Settings of a training, as frozen dataclasses that are checked when made, and the named recipes.

A new setting is one line here: it can then be set on the command line (``--set name=value``), is
written into the run's ``config.json`` and into the checkpoint, and guards resuming.
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from salgan_edge.train.networks import PRESETS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RECIPES", "DistillConfig", "TrainConfig", "changed", "parse_settings", "recipe"]

C = TypeVar("C", "DistillConfig", "TrainConfig")


@dataclass(frozen=True)
class TrainConfig:
    """Training a generator; the defaults are the recipe `edge`."""

    preset: str = "edge"
    """Which network, by its name in `salgan_edge.train.networks.PRESETS`."""
    fusion: Literal["inner+film", "inner", "film", "concat"] = "inner+film"
    """How text joins the image (`edge`): inner products, FiLM, both, or the paper's concatenation."""
    eyes: Literal["none", "lite0"] = "none"
    """A second, frozen backbone (`edge`): EfficientNet-Lite0, which knows ImageNet's thousand things."""
    eye_scale: float = 1.0
    """Side of what the second backbone is shown, against `size`."""
    fine_keys: bool = False
    """Whether texts also ask the features of the fine grid (`edge`)."""
    size: int = 256
    """Side of the square input in pixels; a multiple of the preset's stride: 32 (`edge`) or 2 (`paper`)."""

    # Data

    sampling: Literal["photos", "pairs"] = "photos"
    """``photos``: each photo with several prompts, object prompts among them, and augmentation;
    ``pairs``: every pair of photo and text once an epoch, as it is."""
    fit: Literal["train", "train+validation"] = "train"
    """Which splits are trained on. With ``train+validation`` nothing is left to choose an epoch by:
    the last one is the result."""
    leave_out: Literal["nothing", "1/3", "2/3", "3/3"] = "nothing"
    """A third of the training photos (by a hash of their names) that is not trained on, so that the
    result can teach about them what it did not learn by heart."""
    extra_data: bool = True
    """Whether the free-viewing sets beside ``sjtu_tis`` are mixed in."""
    phrases: bool = True
    """Whether texts with boxes are learned (``phrases/labels.csv``, public sets), where there are any."""
    product: Literal["sjtu_tis", "osie", "scene", "crowd", "freeview_small"] = "sjtu_tis"
    """The gaze set whose viewing and centre bias the product has; validation is on it."""
    only: str = ""
    """Names of the data sets to train on, separated by commas; all that are there where empty. ``labels``
    means ``labels.csv``, of which the rows count whose photos' set is named; ``captions`` the estimated ones."""
    without: str = ""
    """Names of data sets to leave out, as in `only`."""
    human_repeats: int = 2
    """How often each photo of ``sjtu_tis`` is drawn in an epoch."""
    composites: int = 600
    """Made-up photos in an epoch, where there are photos of single things to make them of."""
    batch_size: int = 16
    """Photos (or pairs) per step, over all processes; each photo comes with `prompts` prompts."""
    prompts: int = 7
    """Prompts per photo and step, so that one pass of the backbone serves several texts."""
    augment: float = 0.4
    """Share of the draws in which the photo is cropped, turned and stretched."""
    crop: float = 0.2
    """Largest share of the photo's sides that a random crop takes away."""
    zoom_out: float = 0.05
    """Largest share by which the photo's surroundings come into view, as grey."""
    stretch: float = 0.1
    """Largest change of the aspect ratio, as a natural logarithm."""
    rotation: float = 3.0
    """Largest turn in degrees."""
    colour: float = 0.15
    """Largest relative change of each colour channel."""
    drop_words: float = 0.0
    """Share of the draws in which a caption is read with a fifth of its words left out."""
    text_noise: float = 0.0
    """Standard deviation of Gaussian noise on each entry of a text vector."""
    text_cast: Literal["float", "integer"] = "float"
    """``integer`` repeats a mistake of the reference implementation, for comparison: see `cast_text`."""
    object_target: Literal["people", "gaze", "box"] = "people"
    """Where people are taken to look who are told what a detector found: ``people`` as measured on
    searchers (see `named.box_map`), ``box`` in the middle of its box, ``gaze`` where they look in it
    when told nothing, as far as that says something (see `named.object_map`)."""
    object_weight: float = 0.5
    """Loss weight of an object prompt against a pair with human gaze."""
    named_prompts: int = 4
    """Most texts with boxes that are drawn for a photo."""
    named_weight: float = 0.5
    """Loss weight of a text with boxes against a pair with human gaze."""
    teacher_share: float = 0.5
    """Share of the teachers' maps in the targets, where there are teachers."""
    free_view_weight: float = 0.5
    """Loss weight of the additional free-viewing sets."""

    # Loss: alpha * (kl * KL + cc * (1 - CC) + ...) + adversarial * L(D(I, S^), 1)

    alpha: float = 1.0
    """Weight of the content loss, the paper's equation 2."""
    kl: float = 1.0
    """Weight of the Kullback-Leibler divergence."""
    cc: float = 1.0
    """Weight of one less the linear correlation."""
    sim: float = 0.0
    """Weight of one less the similarity."""
    nss: float = 0.0
    """Weight of the negative normalised scanpath saliency, on fixations."""
    bce: float = 0.0
    """Weight of binary cross-entropy, the paper's equation 1."""
    mse: float = 0.0
    """Weight of the mean squared error of maps in 0..1."""
    contrast: float = 0.0
    """Weight of the contrast between texts about one photo, see `losses.contrast`."""
    adversarial: float = 0.0
    """Weight of the adversarial loss; 0 trains without a discriminator."""
    adversarial_warmup: int = 0
    """Epochs on the content loss alone before the discriminator comes in, as SalGAN does."""
    discriminator: Literal["map", "conditional"] = "conditional"
    """``map``: the paper's, sees the map alone; ``conditional``: sees photo and text too."""
    discriminator_learning_rate: float = 2e-4
    """Constant (Adam with betas 0.5 and 0.999)."""

    # Optimisation

    epochs: int = 12
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule, or the constant rate."""
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    """``one-cycle`` also moves Adam's first beta, from 0.95 to 0.85 and back."""
    warmup: float = 0.15
    """Share of the steps in which the learning rate rises (one-cycle)."""
    beta1: float = 0.9
    """Adam's first beta with a constant schedule."""
    beta2: float = 0.999
    """Adam's second beta."""
    weight_decay: float = 0.05
    """Decoupled (AdamW); with 0 AdamW is Adam."""
    backbone_rate: float = 0.1
    """Learning rate of what is pretrained as a share of the rest's; 0 freezes it (`edge`)."""
    dropout: float = 0.1
    """Share of the trunk's channels left out at random (`edge`)."""
    clip: float = 1.0
    """Largest norm of the generator's gradient; 0 leaves it as it is."""
    ema: float = 0.998
    """Decay per step of the averaged weights that are evaluated and saved; 0 takes the last ones."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Of the networks' arithmetic, in Lightning Fabric's names; losses are always float32."""
    seed: int = 1
    """Seeds weights, order and augmentation."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}: {' or '.join(PRESETS)} was expected")
        _check_ranges(self)
        stride = PRESETS[self.preset].stride
        if self.size % stride:
            raise ValueError(f"size {self.size} is no multiple of {stride}, as preset {self.preset} needs")
        if not self.takes(self.product):
            raise ValueError(f"product is {self.product!r}, which only or without leave out: choose another")
        if not self.adversarial and not any(getattr(self, name) for name in CONTENT_WEIGHTS):
            raise ValueError("every loss has weight 0: give one of them a weight")

    def network_arguments(self) -> dict[str, int | float | str]:
        """Arguments of the network's class that its checkpoint must know."""
        preset = PRESETS[self.preset]
        arguments: dict[str, int | float | str] = {name: getattr(self, name) for name in preset.settings}
        # What older checkpoints do not know is named only where it is asked for.
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        asked = {name: getattr(self, name) for name in preset.later}
        return arguments | {name: value for name, value in asked.items() if value != defaults[name]}

    def takes(self, name: str) -> bool:
        """Whether a data set is trained on, by `only` and `without`."""
        only, without = _names(self.only), _names(self.without)
        return name not in without and (not only or name in only)

    def content_weights(self) -> dict[str, float]:
        """Terms of the content loss that count, with their weights."""
        return {name: weight for name in CONTENT_WEIGHTS if (weight := getattr(self, name)) > 0}


_POSITIVE = (
    "size", "eye_scale", "epochs", "batch_size", "prompts", "human_repeats", "learning_rate", "discriminator_learning_rate", "alpha", "warmup",
)  # fmt: skip
_SHARES = (
    "ema", "beta1", "beta2", "dropout", "augment", "crop", "zoom_out", "colour", "drop_words", "teacher_share",
    "warmup",
)  # fmt: skip

CONTENT_WEIGHTS = ("kl", "cc", "sim", "nss", "bce", "mse", "contrast")
"""Settings that weigh a term of the content loss; the terms have the same names."""


def changed(config: C, **overrides: Any) -> C:
    """`config` with the overrides that are not None."""
    return dataclasses.replace(config, **{k: v for k, v in overrides.items() if v is not None})


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Settings of `TrainConfig` written as ``name=value``.

    >>> parse_settings(["epochs=5", "kl=0.5", "extra_data=false"])
    {'epochs': 5, 'kl': 0.5, 'extra_data': False}

    Raises:
        ValueError: no such setting, or a value of another type.
    """
    kinds = _kinds(TrainConfig)
    settings: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise ValueError(f"{assignment!r} is no setting: name=value was expected, for instance epochs=5")
        if name not in kinds:
            raise ValueError(f"there is no setting {name!r}; there are {', '.join(sorted(kinds))}")
        settings[name] = _parse(name, text, kinds[name])
    return settings


def _parse(name: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{name} is {text!r}: true or false was expected")
        return text.lower() == "true"
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            expected = "a whole number" if kind is int else "a number"
            raise ValueError(f"{name} is {text!r}: {expected} was expected") from None
    # Names: those allowed are checked when the configuration is made.
    return text


def _check_ranges(config: TrainConfig) -> None:
    """Hold each setting against what it may be."""
    for name, kind in _kinds(TrainConfig).items():
        value, allowed = getattr(config, name), typing.get_args(kind)
        if allowed and value not in allowed:
            raise ValueError(f"{name} is {value!r}: {' or '.join(allowed)} was expected")
        if name in _SHARES and not 0 <= value < 1:
            raise ValueError(f"{name} is {value}: 0 or more and less than 1 was expected")
        if name in _POSITIVE and not value > 0:
            raise ValueError(f"{name} is {value}: a number above 0 was expected")
        if kind in (int, float) and not value >= 0:
            raise ValueError(f"{name} is {value}: 0 or more was expected")


def _names(listed: str) -> frozenset[str]:
    return frozenset(name.strip() for name in listed.split(",") if name.strip())


def _kinds(config: type) -> dict[str, Any]:
    hints = typing.get_type_hints(config)
    return {field.name: hints[field.name] for field in dataclasses.fields(config)}


RECIPES = MappingProxyType(
    {
        # The product: content loss on densities, two pretrained backbones, texts with boxes.
        "default": TrainConfig(eyes="lite0", eye_scale=0.875, fine_keys=True),
        # At two fifths of the cost, without the second backbone.
        "small": TrainConfig(),
        # `default` on data whose terms allow commercial use: MIT, Apache-2.0, CC BY 4.0 and CC0.
        "open": TrainConfig(
            eyes="lite0", eye_scale=0.875, fine_keys=True, product="osie",
            only="osie,scene,crowd,labels,coco256,coco_mini,ccp,caltech101,clothing_cc0,grocery",
        ),
        # `small` with a discriminator that sees photo and text, after five epochs without it.
        "edge-gan": TrainConfig(adversarial=0.05, adversarial_warmup=5),
        # The paper's table I and equations 1 to 3: Adam (0.5, 0.999), rate 0.002, batches of 32
        # pairs, 50 epochs. It leaves alpha open, here 1, and keeps no average of weights.
        "paper": TrainConfig(
            preset="paper", size=256, epochs=50, batch_size=32, sampling="pairs", extra_data=False, prompts=1,
            learning_rate=0.002, schedule="constant", beta1=0.5, beta2=0.999, weight_decay=0.0, clip=0.0,
            ema=0.0, dropout=0.0, kl=0.0, cc=0.0, bce=1.0, adversarial=1.0,
            discriminator="map", discriminator_learning_rate=0.002,
        ),
    }
)  # fmt: skip
"""What ``--recipe`` takes."""


def recipe(name: str) -> TrainConfig:
    """The recipe of a name.

    Raises:
        ValueError: there is none.
    """
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]


@dataclass(frozen=True)
class DistillConfig:
    """Distilling CLIP text vectors into a compact `CLIPTextModelWithProjection`."""

    teacher: str = "precomputed"
    """``precomputed`` for the vectors in ``clip_text``, or a CLIP text model: hub id or local folder."""
    sentence_model: str = ""
    """Folder of a sentence model that estimates vectors of further phrases, where they are precomputed."""
    width: int = 128
    """Channels of the token embedding and of the transformer."""
    layers: int = 2
    heads: int = 4
    epochs: int = 10
    batch_size: int = 512
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule (AdamW)."""
    weight_decay: float = 0.01
    name_repeats: int = 4
    """How often a text with a true CLIP vector is shown per epoch; any other text is shown once."""
    split_tokens: float = 0.1
    """Share of merges of byte-pair encoding that are undone at random in half of the batches, so that rare
    pieces of words are trained too."""
    contrast: float = 0.2
    """Weight of the contrastive term, which keeps texts apart as the teacher does."""
    temperature: float = 0.1
    """Temperature of the contrastive term's softmax over the texts of a batch."""
    ema: float = 0.995
    """Decay per step of the averaged weights that are measured and saved."""
    spans: int = 60000
    """Draws of one to six neighbouring words of a caption; the teacher must be able to embed any text."""
    recombined: int = 12000
    """Two-word names with the first word of another ("a baseball pot"); likewise."""
    described: int = 25000
    """Names with a look, a number or a place ("two red kites on the left"); likewise."""
    described_words: int = 44000
    """Words of the vocabulary in such phrases, each as often as any other; likewise."""
    compounds: int = 10000
    """Two names joined ("a man and a dog")."""
    attribute: float = 0.15
    """Length of the fixed direction that is added to an estimated vector for each attribute of its text
    (place, number, size, colour), which estimates hardly carry; 0 for none."""
    bfloat16: bool = False
    """Multiply matrices in bfloat16: about twice as fast on CPUs that have instructions for it."""
    held_out: float = 0.1
    """Share of the true names (COCO's classes excepted) kept for measuring agreement; 0 to teach all."""
    seed: int = 1
    """Seeds weights, texts, order and augmentation."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        for name in ("width", "layers", "heads", "epochs", "batch_size", "learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: a number above 0 was expected")
        for name in (
            "spans",
            "recombined",
            "described",
            "described_words",
            "compounds",
            "contrast",
            "attribute",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: 0 or more was expected")
        for name in ("ema", "held_out", "split_tokens"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, outside 0..1")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided among {self.heads} heads")
