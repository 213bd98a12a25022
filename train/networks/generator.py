"""What the networks of all presets have in common."""

from __future__ import annotations

import torch
from salgan_edge.train.losses import Prediction
from torch import Tensor, nn

from salgan_edge import contract

__all__ = ["Generator", "Preprocess"]


class Generator(nn.Module):
    """A text-guided saliency network: the base of every preset, see `salgan_edge.train.networks.PRESETS`."""

    size: int
    """Side of the square input in pixels."""
    dimension: int
    """Length of a text vector."""
    grid: int
    """Side of the output in cells."""
    preprocess: Preprocess

    def logits(self, pixels: Tensor, text: Tensor, domain: Tensor | None = None) -> Tensor:
        """What the network computes, before it is a map (B, N, grid, grid).

        Args:
            pixels: output of `preprocess` (B, 3, size, size).
            text: text vectors (B, N, dimension); a zero vector means no text.
            domain: whose viewing is predicted for each prompt (B, N), in networks that tell data sets apart.
        """
        raise NotImplementedError

    def predict(self, pixels: Tensor, text: Tensor, domain: Tensor | None = None) -> Prediction:
        """Predicted maps (B, N, grid, grid), float32 whatever the networks' precision; arguments as of `logits`."""
        return Prediction.of_density(self.logits(pixels, text, domain).float())

    def for_export(self) -> Generator:
        """A network that computes the same, to be traced for ONNX; itself where nothing can be saved."""
        return self

    def pretrained(self) -> list[nn.Parameter]:
        """Parameters that do not start at random: they are trained at a smaller rate."""
        return []

    def frozen(self) -> list[nn.Parameter]:
        """Parameters that are never trained."""
        return []


class Preprocess(nn.Module):
    """RGB uint8 (B, H, W, 3) of any size to float32 (B, 3, size, size), exported inside the graph.

    Bilinear with antialiasing (as Pillow and `torch.nn.functional.interpolate(antialias=True)` do
    it), the aspect ratio given up; then scaled to 0..1 and, if `imagenet`, normalised.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: int, *, imagenet: bool = True) -> None:
        super().__init__()
        self.size = size
        mean, std = (contract.IMAGENET_MEAN, contract.IMAGENET_STD) if imagenet else ((0.0,) * 3, (1.0,) * 3)
        # Divided here once: pixels of 0..255 need one subtraction and one product.
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(3, 1, 1)), persistent=False)

    scale: Tensor | None

    def forward(self, image: Tensor) -> Tensor:
        """Resized and normalised pixels."""
        return self.normalise(self.resize(image))

    def resize(self, image: Tensor) -> Tensor:
        """Pixels 0..255 as float32 (B, 3, size, size)."""
        planes = image.permute(0, 3, 1, 2).to(torch.float32)
        return nn.functional.interpolate(
            planes, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True
        )

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels 0..255 (B, 3, ...) as the first layer reads them."""
        centred = pixels - self.mean
        return centred if self.scale is None else centred * self.scale

    def hand_over_scale(self) -> Tensor:
        """Leave the scaling to the next layer: its factors (3, 1, 1), which are applied here no longer."""
        scale = self.scale
        assert scale is not None, "it was handed over already"
        self.scale = None
        return scale
