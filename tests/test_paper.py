"""The `paper` preset against the published weights' names and shapes."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from salgan_edge.export.write import export_bundle  # noqa: E402
from salgan_edge.train.checkpoint import Description, load_generator, save_generator  # noqa: E402
from salgan_edge.train.networks.paper import PaperDiscriminator, PaperGenerator, load_published  # noqa: E402

from salgan_edge import samples  # noqa: E402
from salgan_edge.bundle import Bundle  # noqa: E402
from salgan_edge.errors import CheckpointError  # noqa: E402

PUBLISHED = Path(__file__).parent.parent.parent / "shared" / "peers" / "clip_salgan"


def published_shapes():
    """Names and shapes of the published state dicts, written down from the files."""
    shapes = {}
    for block, channels in (
        ("conv_vgg1", [(3, 64), (64, 64), (64, 64)]),
        ("conv_vgg2", [(64, 128), (128, 128), (128, 128)]),
        ("conv_scratch", [(128, 64), (64, 64)]),
    ):
        for number, (inputs, outputs) in enumerate(channels):
            shapes[f"{block}.{3 * number}.weight"] = (outputs, inputs, 3, 3)
            shapes[f"{block}.{3 * number}.bias"] = (outputs,)
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{block}.{3 * number + 1}.{part}"] = (outputs,)
            shapes[f"{block}.{3 * number + 1}.num_batches_tracked"] = ()
    shapes |= {"sigmoid.0.weight": (1, 64, 3, 3), "sigmoid.0.bias": (1,)}
    shapes |= {"text_feature_conv.weight": (64, 512, 1, 1), "text_feature_conv.bias": (64,)}
    shapes |= {"fusion_conv.weight": (64, 128, 3, 3), "fusion_conv.bias": (64,)}
    return shapes


def test_layers_are_the_published_ones():
    state = PaperGenerator().state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == published_shapes()


def test_size_is_the_published_one():
    # 0.66 M parameters.
    assert sum(p.numel() for p in PaperGenerator().parameters()) == 664_001


def test_float_text_reaches_the_output():
    """The reference casts text to integers, which makes small vectors all zero."""
    torch.manual_seed(0)
    model = PaperGenerator(size=16).eval()
    image = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8)
    text = torch.randn(1, 2, 512) * 0.04
    with torch.inference_mode():
        maps = model(image, text)
    assert maps.shape == (1, 2, 16, 16)
    assert 0 <= maps.min() <= maps.max() <= 1
    assert (maps[0, 0] - maps[0, 1]).abs().max() > 1e-3


def test_discriminator():
    logits = PaperDiscriminator(size=32)(torch.rand(3, 1, 32, 32))
    assert logits.shape == (3,)
    # At the paper's size the fully connected layer reads 128 channels of 128x128.
    assert PaperDiscriminator(256).fully_connected.in_features == 128 * 128 * 128


def test_missing_and_unused_weights_are_refused(tmp_path):
    state = PaperGenerator().state_dict()
    torch.save({k: v for k, v in state.items() if k != "fusion_conv.bias"}, tmp_path / "missing.pt")
    with pytest.raises(CheckpointError, match=r"fusion_conv\.bias"):
        load_published(tmp_path / "missing.pt")
    torch.save({**state, "extra.weight": torch.zeros(1)}, tmp_path / "unused.pt")
    with pytest.raises(CheckpointError, match=r"extra\.weight"):
        load_published(tmp_path / "unused.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_published(tmp_path / "list.pt")


def test_published_format_loads(tmp_path):
    torch.manual_seed(3)
    original = PaperGenerator().eval()
    torch.save(original.state_dict(), tmp_path / "weights.pt")
    model, description = load_generator(tmp_path / "weights.pt")
    assert description.preset == "paper"
    for name, tensor in original.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_exports_through_the_same_command(tmp_path, tiny_text_encoder):
    torch.manual_seed(4)
    save_generator(
        PaperGenerator(size=16), Description("paper", {"size": 16}), tmp_path / "paper.safetensors"
    )
    bundle = export_bundle(tmp_path / "bundle", tmp_path / "paper.safetensors", str(tiny_text_encoder))
    assert bundle.manifest.preset == "paper"
    assert bundle.manifest.grid == (16, 16)
    assert Bundle.open(tmp_path / "bundle")


@pytest.mark.shared
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs ../shared/peers/clip_salgan")
@pytest.mark.parametrize("group", ["total", "sal", "nonsal", "general"])
def test_published_weights(group):
    model = load_published(PUBLISHED / f"generator_model_final_{group}.pt")
    with torch.inference_mode():
        maps = model(torch.from_numpy(samples.load("astronaut"))[None], torch.zeros(1, 1, 512))
    assert maps.shape == (1, 1, 256, 256)
    assert maps.std() > 0.01
