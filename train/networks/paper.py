"""The `paper` preset: CLIP-SalGan's generator and discriminator, as the paper gives them.

Sizes that the paper leaves open are those of the published weights, which load completely: 64 and
128 channels, three convolutions in a Conv-VGG block, two in Conv-Scratch, batch normalisation and
ReLU after each, a 256x256 input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from salgan_edge.train.losses import Prediction
from salgan_edge.train.networks.generator import Generator, Preprocess
from torch import Tensor, nn

from salgan_edge.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PaperDiscriminator", "PaperGenerator", "load_published"]


def _convolutions(inputs: int, outputs: int, count: int) -> nn.Sequential:
    """`count` times convolution 3x3, batch normalisation, ReLU."""
    layers: list[nn.Module] = []
    for number in range(count):
        layers += [
            nn.Conv2d(inputs if number == 0 else outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


class PaperGenerator(Generator):
    """Section III.B of the paper.

    Conv-VGG (64), max pooling, Conv-VGG (128), upsampling, Conv-Scratch (64); the text vector
    through a 1x1 convolution, repeated over the image, concatenated and fused by a 3x3
    convolution; a 3x3 convolution and a sigmoid give the map.

    Unlike the reference implementation the text vector stays floating point (the reference casts
    it to integers, which leaves about 4 of 512 entries).

    Args:
        size: side of the square input and output in pixels, even.
        dimension: length of a text vector.
    """

    def __init__(self, size: int = 256, dimension: int = 512) -> None:
        super().__init__()
        self.size = size
        self.dimension = dimension
        self.grid = size
        self.preprocess = Preprocess(size, imagenet=False)
        self.conv_vgg1 = _convolutions(3, 64, 3)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv_vgg2 = _convolutions(64, 128, 3)
        self.upsample = nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True)
        self.conv_scratch = _convolutions(128, 64, 2)
        self.text_feature_conv = nn.Conv2d(dimension, 64, 1)
        self.fusion_conv = nn.Conv2d(128, 64, 3, padding=1)
        self.sigmoid = nn.Sequential(nn.Conv2d(64, 1, 3, padding=1))

    def forward(self, image: Tensor, text_embedding: Tensor) -> Tensor:
        """Saliency (B, N, h, w) in 0..1 of images uint8 (B, H, W, 3) and texts (B, N, dimension)."""
        return torch.sigmoid(self.logits(self.preprocess(image), text_embedding))

    def predict(self, pixels: Tensor, text: Tensor, domain: Tensor | None = None) -> Prediction:
        """Maps of independent pixels (B, N, h, w), as the paper's loss takes them; arguments as of `logits`."""
        return Prediction.of_pixels(self.logits(pixels, text, domain).float())

    def logits(self, pixels: Tensor, text: Tensor, domain: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Logit of each pixel (B, N, h, w) for pixels (B, 3, size, size) and texts (B, N, dimension).

        `domain` changes nothing: the paper's network tells no data sets apart.
        """
        features = self.conv_scratch(self.upsample(self.conv_vgg2(self.pool(self.conv_vgg1(pixels)))))
        batch, prompts = text.shape[0], text.shape[1]
        asked = self.text_feature_conv(text.reshape(batch * prompts, -1, 1, 1))
        # (B, N, 64, h, w) each, joined along the channels
        asked = asked.reshape(batch, prompts, 64, 1, 1).expand(-1, -1, -1, self.size, self.size)
        seen = features.unsqueeze(1).expand(-1, prompts, -1, -1, -1)
        joined = torch.cat((seen, asked), dim=2).reshape(batch * prompts, 128, self.size, self.size)
        logits: Tensor = self.sigmoid(self.fusion_conv(joined))
        return logits.reshape(batch, prompts, self.size, self.size)


class PaperDiscriminator(nn.Module):
    """Section III.C of the paper: a Conv-VGG layer, max pooling, a fully connected layer.

    It sees the saliency map only, as in the paper's figure 1. Sizes are those of the reference
    implementation: 64 and 128 channels, leaky ReLU with slope 0.2, pooling by 2.

    Args:
        size: side of the square map in pixels, even.
    """

    def __init__(self, size: int = 256) -> None:
        super().__init__()
        self.conv_vgg = nn.Sequential(
            nn.Conv2d(1, 64, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 3, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.pool = nn.MaxPool2d(2, 2)
        self.fully_connected = nn.Linear(128 * (size // 2) ** 2, 1)

    def forward(self, saliency: Tensor) -> Tensor:
        """Logit (B,) that each map (B, 1, size, size) in 0..1 is a human's."""
        features = self.pool(self.conv_vgg(saliency)).flatten(1)
        logits: Tensor = self.fully_connected(features)
        return logits.squeeze(1)


def load_published(path: Path, size: int = 256) -> PaperGenerator:
    """The generator with weights published with the paper (``generator_model_final_*.pt``).

    The names of layers are the published ones, so no map of names is needed.

    Raises:
        CheckpointError: the file is damaged, or a weight is missing, unused or of another shape.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(f"{path} cannot be read as a table of weights: {error}") from error
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path} holds a {type(weights).__name__}: a table of weights was expected")
    model = PaperGenerator(size)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reasons = "; ".join(line.strip() for line in str(error).splitlines()[1:])
        raise CheckpointError(f"{path} does not fit the paper's generator: {reasons}") from error
    model.eval()
    return model
