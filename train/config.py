"""Settings of a generator's training: one frozen dataclass, checked when made.

A new setting is one line here: it can then be set on the command line (``--set name=value``), is
written into the run's ``config.json`` and into the checkpoint, and guards resuming.
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from salgan_edge.train.distill_config import DistillConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DistillConfig", "TrainConfig", "changed", "parse_settings"]

C = TypeVar("C", "DistillConfig", "TrainConfig")

_STRIDES = {"edge": 32, "paper": 2}
"""The input's side is a multiple of it; the networks' own `STRIDE`, known here without torch."""


@dataclass(frozen=True)
class TrainConfig:
    """Training a generator; the defaults are the recipe `edge`."""

    preset: Literal["edge", "paper"] = "edge"
    """Which network."""
    fusion: Literal["inner+film", "inner", "film", "concat"] = "inner+film"
    """How text joins the image (`edge`): inner products, FiLM, both, or the paper's concatenation."""
    eyes: Literal["none", "lite0"] = "none"
    """A second, frozen backbone (`edge`): EfficientNet-Lite0, which knows ImageNet's thousand things."""
    eye_scale: float = 1.0
    """Side of what the second backbone is shown, against `size`."""
    fine_keys: bool = False
    """Whether texts also ask the features of the fine grid (`edge`)."""
    size: int = 256
    """Side of the square input in pixels; a multiple of 32 (`edge`) or 2 (`paper`)."""

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
    searchers (see `objects.box_map`), ``box`` in the middle of its box, ``gaze`` where they look in it
    when told nothing, as far as that says something (see `objects.object_map`)."""
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
        _check_ranges(self)
        stride = _STRIDES[self.preset]
        if self.size % stride:
            raise ValueError(f"size {self.size} is no multiple of {stride}, as preset {self.preset} needs")
        if not self.takes(self.product):
            raise ValueError(f"product is {self.product!r}, which only or without leave out: choose another")
        if not self.adversarial and not any(getattr(self, name) for name in CONTENT_WEIGHTS):
            raise ValueError("every loss has weight 0: give one of them a weight")

    def network_arguments(self) -> dict[str, int | float | str]:
        """Arguments of the network's class that its checkpoint must know."""
        if self.preset == "paper":
            return {"size": self.size}
        arguments: dict[str, int | float | str] = {"size": self.size, "fusion": self.fusion}
        # What older checkpoints do not know is named only where it is asked for.
        if self.eyes != "none":
            arguments["eyes"] = self.eyes
            if self.eye_scale != 1:
                arguments["eye_scale"] = self.eye_scale
        if self.fine_keys:
            arguments["fine_keys"] = True
        return arguments

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
