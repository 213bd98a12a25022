"""Named recipes: starting points, each setting of which can be changed."""

from __future__ import annotations

from types import MappingProxyType

from salgan_edge.train.config import TrainConfig

__all__ = ["RECIPES", "recipe"]

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
