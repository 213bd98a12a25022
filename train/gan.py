"""Generator and discriminator together: one step is the paper's equations 2 and 3.

Discriminators tell whether a map is a human's. They train a generator and are never shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from salgan_edge.train.losses import adversarial_loss, cast_text, content_terms, relative
from salgan_edge.train.networks.paper import PaperDiscriminator
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from salgan_edge.train.config import TrainConfig
    from salgan_edge.train.data.samples import Batch
    from salgan_edge.train.networks.generator import Generator

__all__ = ["ConditionalDiscriminator", "Gan", "judge", "make_discriminator", "summed", "train_step"]

_SIDE = 32
"""Photo and map are brought to so many cells a side, which holds all of a smooth map."""


class ConditionalDiscriminator(nn.Module):
    """Sees the photo, the map and the text.

    Four 3x3 convolutions of stride 2 on photo and map, spectrally normalised (Miyato et al., ICLR
    2018), averaged over the grid; the text comes in by projection: the logit is ``psi(f) +
    <V text, f>`` (Miyato and Koyama, "cGANs with projection discriminator", ICLR 2018). A zero
    vector, no text, leaves ``psi(f)``.

    Args:
        dimension: length of a text vector.
        channels: of the first convolution.
    """

    def __init__(self, dimension: int = 512, channels: int = 24) -> None:
        super().__init__()
        widths = (4, channels, 2 * channels, 4 * channels, 4 * channels)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [
                spectral_norm(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)),
                nn.LeakyReLU(0.2),
            ]
        self.convolutions = nn.Sequential(*layers)
        self.unconditional = spectral_norm(nn.Linear(widths[-1], 1))
        self.projection = spectral_norm(nn.Linear(dimension, widths[-1], bias=False))

    def forward(self, saliency: Tensor, pixels: Tensor, text: Tensor) -> Tensor:
        """Logit (M,) that each map is a human's.

        Args:
            saliency: maps in 0..1 (M, 1, h, w).
            pixels: photos as the generator gets them (M, 3, H, W).
            text: text vectors (M, dimension).
        """
        planes = [nn.functional.adaptive_avg_pool2d(x, _SIDE) for x in (pixels, saliency)]
        features = self.convolutions(torch.cat(planes, dim=1)).mean(dim=(2, 3))
        logits: Tensor = self.unconditional(features).squeeze(1) + (self.projection(text) * features).sum(1)
        return logits


def judge(
    discriminator: ConditionalDiscriminator | PaperDiscriminator, maps: Tensor, pixels: Tensor, text: Tensor
) -> Tensor:
    """Logits (B, N), float32, of maps (B, N, h, w) of photos (B, 3, H, W) and texts (B, N, dimension)."""
    batch, prompts = maps.shape[:2]
    flat = maps.flatten(0, 1).unsqueeze(1)
    if isinstance(discriminator, PaperDiscriminator):
        logits: Tensor = discriminator(flat)
    else:
        logits = discriminator(flat, pixels.repeat_interleave(prompts, 0), text.flatten(0, 1))
    return logits.float().reshape(batch, prompts)


def make_discriminator(
    generator: Generator, config: TrainConfig
) -> ConditionalDiscriminator | PaperDiscriminator | None:
    """The discriminator of a configuration; None where no loss needs one."""
    if config.adversarial == 0:
        return None
    if config.discriminator == "map":
        return PaperDiscriminator(generator.grid)
    return ConditionalDiscriminator(generator.dimension)


@dataclass
class Gan:
    """Generator and discriminator with their optimizers."""

    generator: Generator
    optimizer: Any
    schedule: torch.optim.lr_scheduler.LRScheduler
    discriminator: ConditionalDiscriminator | PaperDiscriminator | None
    discriminator_optimizer: Any
    precision: Any
    """Fabric's, which scales losses in 16 bit."""

    @classmethod
    def make(
        cls,
        fabric: Fabric,
        generator: Generator,
        discriminator: ConditionalDiscriminator | PaperDiscriminator | None,
        config: TrainConfig,
        steps: int,
    ) -> Gan:
        """Move the networks to the device and make optimizers for `steps` steps.

        AdamW with a rate of its own for the backbone, one-cycle or constant; Adam for the discriminator.
        """
        for network in (generator, discriminator):
            if network is not None:
                fabric.to_device(network)
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                # Seeded alike, yet a sum's order, and so its last bit, may differ between processes.
                network.load_state_dict(fabric.broadcast(network.state_dict()))
        optimizer, schedule = _optimizer(generator, config, steps)
        second = None
        if discriminator is not None:
            adam = torch.optim.Adam(
                discriminator.parameters(), lr=config.discriminator_learning_rate, betas=(0.5, 0.999)
            )
            second = fabric.setup_optimizers(adam)
        return cls(
            generator,
            fabric.setup_optimizers(optimizer),
            schedule,
            discriminator,
            second,
            fabric.strategy.precision,
        )

    def state(self) -> dict[str, Any]:
        """All that `load` needs to go on."""
        parts = self._parts()
        return {name: part.state_dict() for name, part in parts.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` gave."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        parts = {
            "generator": self.generator,
            "optimizer": self.optimizer.optimizer,
            "schedule": self.schedule,
            "precision": self.precision,
        }
        if self.discriminator is not None:
            parts |= {
                "discriminator": self.discriminator,
                "discriminator_optimizer": self.discriminator_optimizer.optimizer,
            }
        return parts


def train_step(
    fabric: Fabric, gan: Gan, batch: Batch, config: TrainConfig, *, adversarial: bool
) -> dict[str, Tensor]:
    """One step of the generator, and of the discriminator if `adversarial`.

    Args:
        fabric: where it runs.
        gan: networks and optimizers; they are changed.
        batch: this process's share of the step's photos.
        config: weights of the losses.
        adversarial: whether the discriminator takes part.

    Returns:
        This process's share (the sum over processes is the mean over the batch) of ``generator``, of
        each content term, and of ``adversarial`` and ``discriminator``.
    """
    generator, discriminator = gan.generator, gan.discriminator
    # Each pair's share of the batch: all weights of all processes sum to 1.
    weight = batch.weight / summed(fabric, batch.weight.sum())
    pixels = generator.preprocess.normalise(batch.pixels.permute(0, 3, 1, 2).float())
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    text = cast_text(batch.text, config.text_cast)

    # Generator, equation 2: alpha * content loss + L(D(I, S^), 1)
    with fabric.autocast():
        predicted = generator.predict(pixels, text, batch.domain)
    weights = config.content_weights()
    terms = {
        name: (term * weight).sum()
        for name, term in content_terms(predicted, batch.target, batch.fixations, weights).items()
    }
    loss = torch.zeros((), device=weight.device)
    for name, term in terms.items():
        loss = loss + config.alpha * weights[name] * term
    if adversarial:
        assert discriminator is not None
        # The generator's loss passes through the discriminator and leaves it as it is.
        discriminator.requires_grad_(requires_grad=False)
        with fabric.autocast():
            fooled = judge(discriminator, predicted.map, pixels, text)
        terms["adversarial"] = (adversarial_loss(fooled, human=True) * weight).sum()
        loss = loss + config.adversarial * terms["adversarial"]
        discriminator.requires_grad_(requires_grad=True)
    gan.optimizer.zero_grad()
    fabric.backward(loss)
    _sum_gradients(fabric, generator)
    if config.clip > 0:
        fabric.clip_gradients(generator, gan.optimizer, max_norm=config.clip, error_if_nonfinite=False)
    gan.optimizer.step()
    gan.schedule.step()
    terms["generator"] = loss

    # Discriminator, equation 3: L(D(I, S), 1) + L(D(I, S^), 0)
    if adversarial:
        assert discriminator is not None
        with fabric.autocast():
            human = judge(discriminator, relative(batch.target), pixels, text)
            made = judge(discriminator, predicted.map.detach(), pixels, text)
        judged = adversarial_loss(human, human=True) + adversarial_loss(made, human=False)
        terms["discriminator"] = (judged * weight).sum()
        gan.discriminator_optimizer.zero_grad()
        fabric.backward(terms["discriminator"])
        _sum_gradients(fabric, discriminator)
        gan.discriminator_optimizer.step()
    return {name: term.detach() for name, term in terms.items()}


def summed(fabric: Fabric, values: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    total = fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    return total


def _sum_gradients(fabric: Fabric, network: torch.nn.Module) -> None:
    """Add up the gradients of all processes, whose losses are shares of the batch's.

    The networks are small, so one sum after the backward pass serves as well as
    `DistributedDataParallel`, which wraps each network and restricts how often and through which
    method it may be called: a discriminator is called three times a step.
    """
    if fabric.world_size == 1:
        return
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    flat = summed(fabric, flat)
    for gradient, new in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(new.view(gradient.shape))


def _optimizer(
    generator: Generator, config: TrainConfig, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    backbone, frozen = generator.pretrained(), generator.frozen()
    elsewhere = {id(parameter) for parameter in (*backbone, *frozen)}
    head = [parameter for parameter in generator.parameters() if id(parameter) not in elsewhere]
    for parameter in frozen:
        parameter.requires_grad_(False)
    for parameter in backbone:
        parameter.requires_grad_(config.backbone_rate > 0)
    # The schedule divides by the rates, so that of a frozen backbone is not quite zero.
    rates = [max(config.learning_rate * config.backbone_rate, 1e-12), config.learning_rate]
    groups = [{"params": backbone, "lr": rates[0]}, {"params": head, "lr": rates[1]}]
    if not backbone:
        rates, groups = rates[1:], groups[1:]
    optimizer = torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay
    )  # fmt: skip
    schedule: torch.optim.lr_scheduler.LRScheduler
    if config.schedule == "one-cycle":
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rates, total_steps=steps + 1, pct_start=config.warmup
        )
    else:
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return optimizer, schedule
