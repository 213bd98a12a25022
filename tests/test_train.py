"""Training on a made-up folder: splits, samples, steps of the GAN, whole runs, resuming, the command."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import math
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lightning_fabric import Fabric  # noqa: E402
from salgan_edge.train import loop, losses  # noqa: E402
from salgan_edge.train.checkpoint import Description, build, load_generator  # noqa: E402
from salgan_edge.train.config import (  # noqa: E402
    TrainConfig,
    changed,
    parse_settings,
    recipe,
)
from salgan_edge.train.data import text_vectors  # noqa: E402
from salgan_edge.train.data.named import object_map, prompts_for  # noqa: E402
from salgan_edge.train.data.samples import Batch, TrainingSet, to_grid  # noqa: E402
from salgan_edge.train.gan import ConditionalDiscriminator, Gan, judge, make_discriminator, train_step  # noqa: E402
from salgan_edge.train.loop import Sources, TrainingInterrupted, train  # noqa: E402
from salgan_edge.train.networks import PRESETS  # noqa: E402
from salgan_edge.train.networks.edge import EdgeGenerator  # noqa: E402
from salgan_edge.train.networks.paper import PaperGenerator  # noqa: E402
from salgan_edge.train.networks.text_encoder import make_encoder  # noqa: E402
from salgan_edge.train.run import Average, Display  # noqa: E402
from salgan_edge.train.setup import load_data  # noqa: E402

from salgan_edge.errors import CheckpointError, DataError, DeviceError  # noqa: E402
from salgan_edge.gaze.detector import COCO_CLASSES, Detection  # noqa: E402
from salgan_edge.gaze.folder import GazeFolder, split_names  # noqa: E402
from salgan_edge.images import read_image  # noqa: E402

# Splits and data


def test_split_is_70_15_15_and_by_name_alone():
    names = [f"{n:012d}" for n in range(200)]
    split = split_names(names)
    counts = [list(split.values()).count(part) for part in ("train", "validation", "test")]
    assert counts == [140, 30, 30]
    assert split_names(reversed(names)) == split
    # Written down once: a change of the rule would let training photos into the test.
    chosen = [n for n in range(30) if split[f"{n:012d}"] == "validation"]
    assert chosen == [9, 11, 19, 24, 28]


def test_grid_keeps_the_place():
    values = np.zeros((48, 64), np.float32)
    values[36:42, 8:16] = 1
    grid = to_grid(values, 8)
    assert grid.shape == (8, 8)
    assert np.unravel_index(grid.argmax(), grid.shape) == (6, 1)
    assert grid.max() == pytest.approx(1)


def test_object_target_lies_in_the_box():
    free = np.zeros((20, 20), np.float32)
    free[3, 3] = 1
    target = object_map([Detection("dog", 0.9, (0.5, 0.6, 0.7, 0.9))], free)
    # The middle of the box is (0.6, 0.75): between columns 11 and 12, in row 14 or 15.
    y, x = np.unravel_index(target.argmax(), target.shape)
    assert x in (11, 12)
    assert y in (14, 15)
    assert target[3, 3] == pytest.approx(0.35, abs=0.01)


def test_object_target_follows_gaze_within_the_box():
    """A face at the top of a person is looked at; a glance beside the box, or none at all, changes nothing."""
    free = np.zeros((20, 20), np.float32)
    free[4, 10] = 1
    person = [Detection("person", 0.9, (0.4, 0.1, 0.65, 0.9))]

    def peak(**options):
        target = object_map(person, free, 0.0, **options)
        assert target.max() == pytest.approx(1, abs=0.02)
        return np.unravel_index(target.argmax(), target.shape)

    assert peak()[0] in (9, 10)
    assert peak(gaze=True) == (4, 10)
    free[4, 10], free[4, 2] = 0, 1
    assert peak(gaze=True)[0] in (9, 10)
    free[16, 10] = 0.02
    assert peak(gaze=True)[0] in (9, 10)


def test_object_prompts():
    assert prompts_for("dog", 1)[0] == "a dog"
    assert "two dogs" in prompts_for("dog", 2)
    assert "several people" in prompts_for("person", 5)
    assert "an apple" in text_vectors.name_variants("a apple")


def test_absent_objects_are_really_absent(gaze_data):
    """A photo that no detector looked at gets no object prompts; one with a huge dog never "no dog"."""
    folder = GazeFolder(gaze_data / "sjtu_tis")
    true = text_vectors.true_vectors(gaze_data / "clip_text")
    whole = (0.0, 0.0, 1.0, 1.0)
    everything = [Detection(name, 0.9, whole) for name in COCO_CLASSES if name != "cat"]
    detections = {f"sjtu_tis/{pair.image}": everything for pair in folder.pairs}
    config = changed(TrainConfig(), size=64, prompts=6, text_noise=0.0)

    def resize(_photo):
        return np.zeros((64, 64, 3), np.uint8)

    def encode(texts):
        # Recognisable: the class prompt's true vector for what names a cat, ones for all else.
        return np.stack(
            [
                true.vectors[true.texts.index("a cat")] if "cat" in t else np.ones(512, np.float32)
                for t in texts
            ]
        )

    random = np.random.default_rng(0)
    seen = TrainingSet([folder], detections, resize, encode, true, true, config, 8)
    batch = seen.batch(range(4), random)
    assert (batch.weight > 0).all()
    # The only absent class is the cat.
    cat = torch.from_numpy(true.vectors[true.texts.index("a cat")])
    assert torch.allclose(batch.text[:, 4:], cat.expand(4, 2, 512), atol=1e-6)
    unseen = TrainingSet([folder], {}, resize, encode, true, true, config, 8)
    assert (unseen.batch(range(4), random).weight[:, 4:] == 0).all()


def test_object_prompts_are_asked_in_the_products_way(gaze_data, tmp_path):
    """How another data set was viewed is learned from its gaze, not from targets made of boxes."""
    shutil.copytree(gaze_data / "sjtu_tis", tmp_path / "osie")
    folder = GazeFolder(tmp_path / "osie")
    true = text_vectors.true_vectors(gaze_data / "clip_text")
    dog = [Detection("dog", 0.9, (0.2, 0.2, 0.6, 0.6))]
    training = TrainingSet(
        [folder], {f"osie/{pair.image}": dog for pair in folder.pairs},
        lambda _: np.zeros((64, 64, 3), np.uint8), lambda texts: np.ones((len(texts), 512), np.float32),
        true, true, changed(TrainConfig(), size=64, prompts=6), 8,
    )  # fmt: skip
    batch = training.batch(range(2), np.random.default_rng(0))
    assert batch.domain.tolist() == [[1, 1, 1, 1, 0, 0]] * 2
    texts, _, domains = training.questions(training.photos[0])
    assert texts[-1] == "a dog"
    assert domains.tolist() == [1, 1, 1, 1, 0]


def test_held_out_names_spare_coco(gaze_data):
    names = text_vectors.true_vectors(gaze_data / "clip_text")
    held = text_vectors.held_out(names, 0.5)
    assert held.any()
    assert all(text.startswith("a thing") for text in names.where(held).texts)


# Parts of the loop


def test_average_by_hand():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 0.0)
    average = Average(model, 0.5)
    torch.nn.init.constant_(model.weight, 1.0)
    average.update(model)  # decay min(0.5, 2/11)
    assert average.model.weight.item() == pytest.approx(1 - 2 / 11)
    restored = Average(model, 0.5)
    restored.load(average.state())
    average.update(model)
    restored.update(model)
    assert restored.model.weight.item() == average.model.weight.item()


def test_recipes_and_settings():
    paper = recipe("paper")
    assert (paper.epochs, paper.batch_size, paper.learning_rate) == (50, 32, 0.002)
    assert (paper.beta1, paper.beta2, paper.preset, paper.discriminator) == (0.5, 0.999, "paper", "map")
    assert paper.content_weights() == {"bce": 1.0}
    assert recipe("small") == TrainConfig()
    assert TrainConfig().content_weights() == {"kl": 1.0, "cc": 1.0}
    settings = parse_settings(["epochs=5", " kl = 0.5", "extra_data=False", "text_cast=integer"])
    assert settings == {"epochs": 5, "kl": 0.5, "extra_data": False, "text_cast": "integer"}
    assert changed(TrainConfig(), **settings).text_cast == "integer"
    with pytest.raises(ValueError, match="no recipe 'gan'; there are default, small, open, edge-gan, paper"):
        recipe("gan")


def test_recipe_open_takes_named_sets_alone():
    config = recipe("open")
    assert config.product == "osie"
    assert [name for name in ("osie", "labels", "ccp", "captions") if config.takes(name)] == [
        "osie",
        "labels",
        "ccp",
    ]
    assert not any(
        config.takes(name) for name in ("sjtu_tis", "freeview_small", "imagenet1000", "tinyimagenet")
    )
    without = TrainConfig(without="ccp, labels")
    assert [without.takes(name) for name in ("ccp", "labels", "osie")] == [False, False, True]
    with pytest.raises(ValueError, match="product is 'osie', which only or without leave out"):
        changed(config, without="osie")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_predictions(name):
    """By its name alone: of a size that its row allows, and of no other."""
    preset = PRESETS[name]
    config = TrainConfig(preset=name, size=2 * preset.stride)
    model = build(Description(name, config.network_arguments()))
    pixels = model.preprocess(torch.zeros(1, 8, 9, 3, dtype=torch.uint8))
    maps = model.eval().predict(pixels, torch.zeros(1, 2, model.dimension)).map
    assert maps.shape == (1, 2, model.grid, model.grid)
    with pytest.raises(ValueError, match=f"no multiple of {preset.stride}, as preset {name} needs"):
        TrainConfig(preset=name, size=preset.stride + 1)


def test_settings_load_no_torch():
    script = "import sys, salgan_edge.train.config; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs", "name=value was expected"),
        ("epoch=3", r"no setting 'epoch'; there are adversarial, .*batch_size"),
        ("epochs=3.5", "epochs is '3.5': a whole number"),
        ("kl=much", "kl is 'much': a number"),
        ("extra_data=1", "true or false"),
    ],
)
def test_wrong_settings(assignment, message):
    with pytest.raises(ValueError, match=message):
        parse_settings([assignment])


@pytest.mark.parametrize(
    "bad", [{"preset": "x"}, {"size": 100}, {"epochs": 0}, {"ema": 1.0}, {"nss": -1.0}, {"text_cast": "int"}, {"kl": 0.0, "cc": 0.0}]
)  # fmt: skip
def test_settings_are_checked(bad):
    with pytest.raises(ValueError, match="every loss" if "cc" in bad else next(iter(bad))):
        changed(TrainConfig(), **bad)


def toy_batch(size=16, photos=4, prompts=2):
    torch.manual_seed(0)
    return Batch(
        pixels=torch.randint(0, 256, (photos, size, size, 3), dtype=torch.uint8),
        text=torch.randn(photos, prompts, 512),
        target=losses.density(torch.rand(photos, prompts, size, size) ** 8),
        weight=torch.ones(photos, prompts),
        domain=torch.zeros(photos, prompts, dtype=torch.long),
    )


@pytest.mark.parametrize("kind", ["map", "conditional"])
def test_a_step_of_the_gan_goes_the_right_way(kind):
    """The generator fools the old discriminator better, the discriminator tells the old maps better."""
    fabric = Fabric(accelerator="cpu", devices=1)
    config = changed(
        recipe("paper"), size=16, discriminator=kind, alpha=1e-6, learning_rate=1e-3,
        discriminator_learning_rate=1e-3,
    )  # fmt: skip
    torch.manual_seed(1)
    generator = PaperGenerator(16)
    discriminator = make_discriminator(generator, config)
    gan = Gan.make(fabric, generator, discriminator, config, 10)
    batch = toy_batch()
    pixels = generator.preprocess.normalise(batch.pixels.permute(0, 3, 1, 2).float())

    def measure(made_by, judged_by):
        made = made_by.predict(pixels, batch.text).map.detach()
        human = judge(judged_by, losses.relative(batch.target), pixels, batch.text)
        fake = judge(judged_by, made, pixels, batch.text)
        fooling = losses.adversarial_loss(fake, human=True).mean().item()
        telling = losses.adversarial_loss(fake, human=False) + losses.adversarial_loss(human, human=True)
        return fooling, telling.mean().item()

    old = copy.deepcopy(generator), copy.deepcopy(discriminator)
    before = {name: tensor.clone() for name, tensor in discriminator.named_parameters()}
    train_step(fabric, gan, batch, config, adversarial=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in discriminator.named_parameters())
    generator.load_state_dict(old[0].state_dict())

    terms = train_step(fabric, gan, batch, config, adversarial=True)
    assert set(terms) == {"bce", "adversarial", "generator", "discriminator"}
    expected = config.alpha * terms["bce"] + config.adversarial * terms["adversarial"]
    assert terms["generator"].item() == pytest.approx(expected.item())
    frozen = copy.deepcopy(old[1])
    assert measure(generator, frozen)[0] < measure(old[0], frozen)[0]
    assert measure(old[0], discriminator)[1] < measure(old[0], frozen)[1]


def test_discriminator_sees_photo_map_and_text():
    torch.manual_seed(0)
    discriminator = ConditionalDiscriminator().eval()
    maps, pixels, text = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 64, 64), torch.randn(2, 3, 512)
    logits = judge(discriminator, maps, pixels, text)
    for b in range(2):
        for n in range(3):
            one = discriminator(maps[b, n][None, None], pixels[b][None], text[b, n][None])
            assert logits[b, n].item() == pytest.approx(one.item(), abs=1e-5)
    assert not torch.allclose(judge(discriminator, maps, pixels.flip(0), text), logits)
    assert not torch.allclose(judge(discriminator, maps, pixels, text.flip(0)), logits)
    assert not torch.allclose(judge(discriminator, maps.flip(0), pixels, text), logits)


def test_fixations_follow_the_photo(gaze_data):
    """Turned, cropped and mirrored as the maps are, none for object prompts, and without changing what is drawn."""
    folder = GazeFolder(gaze_data / "sjtu_tis")
    true = text_vectors.true_vectors(gaze_data / "clip_text")
    dog = [Detection("dog", 0.9, (0.2, 0.2, 0.6, 0.6))]
    detections = {f"sjtu_tis/{pair.image}": dog for pair in folder.pairs}

    def batch(**settings):
        config = changed(TrainConfig(), size=64, prompts=6, crop=0.4, **settings)
        data = TrainingSet(
            [folder], detections, lambda _: np.zeros((64, 64, 3), np.uint8),
            lambda texts: np.ones((len(texts), 512), np.float32), true, true, config, 16,
        )  # fmt: skip
        return data.batch(range(8), np.random.default_rng(3))

    with_fixations, without = batch(nss=1.0), batch()
    assert without.fixations is None
    assert torch.equal(with_fixations.target, without.target)
    assert with_fixations.fixations.shape == with_fixations.target.shape
    assert (with_fixations.fixations[:, 4:] == 0).all()
    for target, fixations in zip(
        with_fixations.target[:, :4].flatten(0, 1), with_fixations.fixations[:, :4].flatten(0, 1), strict=True
    ):
        # The fixations lie where the map is bright.
        assert losses.scanpath_saliency(target, fixations) > 1


# Whole runs

SETTINGS = {"size": 64, "epochs": 2, "batch_size": 4, "prompts": 4, "human_repeats": 1, "backbone_rate": 0.1}


@pytest.fixture(scope="module")
def sources(gaze_data, tiny_text_encoder, tiny_checkpoint):
    return Sources(gaze_data, tiny_text_encoder, start=tiny_checkpoint)


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same(first, second):
    """Two states, equal to the last bit."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            assert_same(first[name], second[name])
    elif isinstance(first, list | tuple):
        for a, b in zip(first, second, strict=True):
            assert_same(a, b)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


def interrupt_at(monkeypatch, step):
    """Ctrl-C in the middle of a step, counted from 1 over the whole training."""
    taken = []

    def interrupted(*arguments, **options):
        taken.append(1)
        if len(taken) == step:
            signal.raise_signal(signal.SIGINT)
        return train_step(*arguments, **options)

    monkeypatch.setattr(loop, "train_step", interrupted)


def test_training_learns_and_logs(sources, tmp_path):
    config = changed(TrainConfig(), **SETTINGS)
    scores = train(sources, tmp_path, config)
    assert {"all", "pure", "salient", "nonsalient", "general", "guide"} == set(scores)
    lines = (tmp_path / "train.log").read_text().splitlines()
    epochs = [line for line in lines if "/2 loss" in line]
    assert len(epochs) == 2
    first, second = (float(line.split("loss ")[1].split()[0]) for line in epochs)
    assert second < first
    assert "CC all" in epochs[0]
    assert "min left" in epochs[0]
    assert json.loads((tmp_path / "config.json").read_text())["size"] == 64
    history = rows(tmp_path)
    assert [row["epoch"] for row in history] == [1, 2]
    assert history[0]["loss"]["generator"] == pytest.approx(first, abs=1e-4)
    assert history[0]["loss"]["kl"] + history[0]["loss"]["cc"] == pytest.approx(first, abs=1e-4)
    assert max(row["validation"]["all"] for row in history) == scores["all"]
    assert history[0]["validation"]["loss"] > 0
    assert read_image(tmp_path / "curves.png").shape[0] > 100
    assert logged_scalars(tmp_path / "tensorboard") >= {"loss/generator", "validation/loss", "validation/all"}
    best, description = load_generator(tmp_path / "generator.safetensors")
    assert description.metrics["cc"] == scores
    assert description.training["config"] == dataclasses.asdict(config)
    last, _ = load_generator(tmp_path / "last.safetensors")
    assert best.grid == last.grid == 8

    # A run is not trained over, and not resumed with other settings.
    with pytest.raises(CheckpointError, match="add --resume"):
        train(sources, tmp_path, config)
    with pytest.raises(CheckpointError, match=r"other settings \(seed\)"):
        train(sources, tmp_path, changed(config, seed=5), resume=True)
    # One that is finished stays as it is.
    assert train(sources, tmp_path, config, resume=True) == scores


def logged_scalars(folder):
    """Names of the scalars in TensorBoard's files: records of length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    names = set()
    for path in folder.iterdir():
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            names |= {value.tag for value in event.summary.value}
            data = data[16 + length :]
    return names


@pytest.mark.parametrize("step", [2, 5])
def test_resumed_equals_uninterrupted(sources, tmp_path, monkeypatch, uninterrupted, step):
    """Ctrl-C at the end of the first epoch, and within the third: equal to the last bit."""
    config, whole = uninterrupted
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(TrainingInterrupted):
            train(sources, tmp_path, config)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (state["standing"]["epoch"], state["standing"]["step"]) == divmod(step, 2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    train(sources, tmp_path, config, resume=True)
    states = [torch.load(run / "state.pt", weights_only=True) for run in (whole, tmp_path)]
    assert {"discriminator", "discriminator_optimizer", "generator", "schedule"} < set(states[0]["gan"])
    assert states[0]["average"]["updates"] == 6
    assert_same(*states)
    for before, after in zip(rows(whole), rows(tmp_path), strict=True):
        assert before["loss"] == after["loss"]
        assert before["validation"] == after["validation"]


@pytest.fixture(scope="module")
def uninterrupted(sources, tmp_path_factory):
    """Three epochs of two steps, the discriminator from the second on, dropout, averaged weights."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    config = changed(
        TrainConfig(), **{**SETTINGS, "epochs": 3}, adversarial=0.1, adversarial_warmup=1, dropout=0.2
    )
    train(sources, folder, config)
    history = rows(folder)
    assert "discriminator" not in history[0]["loss"]
    assert {"adversarial", "discriminator"} < set(history[1]["loss"])
    return config, folder


def test_final_training_uses_validation_and_takes_the_last_epoch(sources, tmp_path):
    config = changed(TrainConfig(), **SETTINGS, fit="train+validation")
    assert train(sources, tmp_path, config) == {}
    assert all(row["validation"] == {} for row in rows(tmp_path))
    weights = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("generator", "last")]
    assert weights[0] == weights[1]
    folder = GazeFolder(sources.data / "sjtu_tis")
    model, description = load_generator(tmp_path / "generator.safetensors")
    assert description.training["epoch"] == 2
    photos_of = {part: {pair.image for pair in folder.select(part)} for part in ("train", "validation")}
    assert len(
        load_data(sources, model, make_encoder(sources.text_encoder), config, tmp_path).training.photos
    ) == sum(map(len, photos_of.values()))
    # The folder itself is as it was.
    assert len(photos_of["validation"]) == 2


@pytest.mark.parametrize(
    "settings", [{}, {"discriminator": "conditional", "text_cast": "integer", "nss": 0.1}]
)
def test_paper_recipe(gaze_data, tiny_text_encoder, tmp_path, settings):
    config = changed(recipe("paper"), size=32, epochs=2, batch_size=16, **settings)
    train(Sources(gaze_data, tiny_text_encoder), tmp_path, config)
    first, second = rows(tmp_path)
    assert set(first["loss"]) == {"generator", "discriminator", "adversarial", "bce"} | settings.keys() & {
        "nss"
    }
    assert second["loss"]["bce"] < first["loss"]["bce"]
    # Ten photos with four pairs each, sixteen to a step: two steps.
    assert "2 steps per epoch" in (tmp_path / "train.log").read_text()
    model, description = load_generator(tmp_path / "generator.safetensors")
    assert isinstance(model, PaperGenerator)
    assert (description.preset, description.arguments) == ("paper", {"size": config.size})
    start = Sources(gaze_data, tiny_text_encoder, start=tmp_path / "generator.safetensors")
    with pytest.raises(DataError, match=r"of preset paper, but edge is trained: choose another --recipe"):
        train(start, tmp_path / "edge", TrainConfig(size=64))


def test_another_product_is_trained_and_validated(gaze_data, sources, tmp_path):
    """Of the sets that are there, those that are named; the product's viewing has number 0."""
    data = tmp_path / "data"
    for name in ("osie", "scene", "crowd"):
        shutil.copytree(gaze_data / "sjtu_tis", data / name)
    shutil.copytree(gaze_data / "clip_text", data / "clip_text")
    elsewhere = dataclasses.replace(sources, data=data)
    with pytest.raises(DataError, match="sjtu_tis"):
        train(elsewhere, tmp_path / "run", TrainConfig(**SETTINGS))
    config = TrainConfig(**SETTINGS, product="osie", only="osie,scene,labels")
    encode = make_encoder(sources.text_encoder)
    parts = load_data(elsewhere, EdgeGenerator(64), encode, config, tmp_path / "loaded")
    assert parts.folders == ["osie", "scene"]
    assert {photo.name.split("/")[0]: photo.domain for photo in parts.training.photos} == {
        "osie": 0,
        "scene": 2,
    }
    # What stood first changes places with the product.
    both = changed(config, only="osie,sjtu_tis")
    shutil.copytree(gaze_data / "sjtu_tis", data / "sjtu_tis")
    photos = load_data(elsewhere, EdgeGenerator(64), encode, both, tmp_path / "both").training.photos
    assert {photo.name.split("/")[0]: photo.domain for photo in photos} == {"osie": 0, "sjtu_tis": 1}
    scores = train(elsewhere, tmp_path / "run", config)
    _, description = load_generator(tmp_path / "run" / "generator.safetensors")
    assert description.metrics == {"split": "osie validation, on the network's grid", "cc": scores}
    assert description.training["data"][-2:] == ["osie", "scene"]


def test_half_precision(sources, tmp_path):
    config = changed(TrainConfig(), **{**SETTINGS, "epochs": 1}, precision="bf16-mixed", adversarial=0.1)
    train(sources, tmp_path, config)
    assert all(math.isfinite(value) for value in rows(tmp_path)[0]["loss"].values())
    assert next(load_generator(tmp_path / "generator.safetensors")[0].parameters()).dtype == torch.float32


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the processes' start, by Lightning Fabric
def test_two_processes_train_like_one(sources, tmp_path):
    """Gloo on the CPU; batches of 5 photos are divided unevenly. Dropout draws by process, so it is off."""
    config = changed(TrainConfig(), **{**SETTINGS, "batch_size": 5}, adversarial=0.1, dropout=0.0)
    one = train(sources, tmp_path / "one", config, accelerator="cpu")
    two = train(sources, tmp_path / "two", config, accelerator="cpu", devices=2)
    assert two["all"] == pytest.approx(one["all"], abs=1e-3)
    for first, second in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        for name, value in first["loss"].items():
            assert second["loss"][name] == pytest.approx(value, rel=2e-4), name
    assert "on 2 x cpu" in (tmp_path / "two" / "train.log").read_text()


def test_unknown_device(sources, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match="cannot be used"):
        train(sources, tmp_path, TrainConfig(**SETTINGS), accelerator="gpu")


def test_training_refuses_what_is_missing(tmp_path, gaze_data, tiny_text_encoder):
    with pytest.raises(DataError, match="does not exist"):
        train(Sources(tmp_path / "no", tiny_text_encoder), tmp_path / "run", TrainConfig())
    with pytest.raises(DataError, match=r"give --backbone, or a checkpoint with --from"):
        train(Sources(gaze_data, tiny_text_encoder), tmp_path / "run", TrainConfig())
    # All that is missing is told at once.
    data, text = tmp_path / "data", tmp_path / "text"
    (data / "sjtu_tis" / "images").mkdir(parents=True)
    text.mkdir()
    with pytest.raises(DataError) as caught:
        train(Sources(data, text), tmp_path / "run", TrainConfig())
    for part in (
        "--backbone",
        "pairs.csv",
        "fixations.npz",
        "real_vit_b32.npz",
        "estimated.npz",
        "tokenizer.json",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "100"], "no multiple of 32"),
        (["--recipe", "best"], "no recipe 'best'"),
        (["--set", "epoch=3"], "no setting 'epoch'"),
        (["--set", "text_cast=int"], "float or integer"),
    ],
)
def test_command_refuses_bad_settings(gaze_data, run, tmp_path, options, message):
    code, _, errors = run("train", "--data", gaze_data, "--output", tmp_path, *options)
    assert code == 2
    # The message is wrapped to the terminal's width.
    assert message in " ".join(errors.replace("│", " ").split())


def test_command_trains_is_interrupted_and_goes_on(sources, monkeypatch, run, tmp_path):
    arguments = [
        "train", "--data", sources.data, "--text-encoder", sources.text_encoder, "--from", sources.start, "--recipe", "small",
        "--output", tmp_path / "my run", "--size", 64, "--epochs", 1, "--set", "prompts=4", "--set", "batch_size=4", "--set", "human_repeats=1",
        "--accelerator", "cpu",
    ]  # fmt: skip
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        code, _, told = run(*arguments)
    assert code == 130
    before, command = told.splitlines()[-2:]
    assert before.endswith("Go on with")
    again = shlex.split(command)
    assert again == ["salgan-edge", *map(str, arguments), "--resume"]
    code, told, _ = run(*again[1:])
    assert code == 0
    assert told.startswith(f"{tmp_path / 'my run' / 'generator.safetensors'}: validation CC all")


def test_progress_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Display(2, 3, 0, shown=True) as display:
        display.step(0, {"generator": 1.25, "kl": 0.5})
        display.validated(0.7)
    shown = sys.stderr.getvalue()
    for part in ("epoch 1/2", "1/6", "generator 1.250 kl 0.500", "CC 0.700"):
        assert part in shown
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Display(2, 3, 0, shown=True) as display:
        display.step(0, {"generator": 1.25})
    assert sys.stderr.getvalue() == ""
