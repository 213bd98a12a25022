"""Training on a made-up folder: splits, losses by hand, resuming, distillation."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from salgan_edge.train import losses  # noqa: E402
from salgan_edge.train.config import DistillConfig, TrainConfig, changed  # noqa: E402
from salgan_edge.train.data import text_vectors  # noqa: E402
from salgan_edge.train.data.coco import COCO_CLASSES  # noqa: E402
from salgan_edge.train.data.gaze import GazeFolder, photos  # noqa: E402
from salgan_edge.train.data.objects import Detection, object_map, prompts_for  # noqa: E402
from salgan_edge.train.data.samples import TrainingSet, _cropped, _mirrored, to_grid  # noqa: E402
from salgan_edge.train.data.split import split_names  # noqa: E402
from salgan_edge.train.distill import agreement, distill  # noqa: E402
from salgan_edge.train.ema import Average  # noqa: E402
from salgan_edge.train.loop import Sources, train  # noqa: E402

from salgan_edge import cli, metrics  # noqa: E402
from salgan_edge.errors import CheckpointError, DataError  # noqa: E402

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


def test_no_photo_crosses_a_split(gaze_data):
    folder = GazeFolder(gaze_data / "sjtu_tis")
    images = {part: {pair.image for pair in folder.select(part)} for part in ("train", "validation", "test")}
    assert not images["train"] & images["validation"]
    assert not images["train"] & images["test"]
    assert not images["validation"] & images["test"]
    assert {len(pairs) for part in images for pairs in photos(folder.select(part)).values()} == {4}
    assert sum(len(found) for found in images.values()) == 14


def test_fixations_and_map(gaze_data):
    folder = GazeFolder(gaze_data / "sjtu_tis")
    pair = next(p for p in folder.pairs if p.condition == "salient")
    counts = folder.fixation_map(pair, (48, 64))
    assert counts.sum() == 30
    human = folder.saliency_map(pair)
    assert human.shape == (240, 320)
    assert human.max() == pytest.approx(1)
    y, x = np.unravel_index(human.argmax(), human.shape)
    # Made around (12, 12) of 64 columns and 48 rows.
    assert abs(x / 5 - 12) < 3
    assert abs(y / 5 - 12) < 3


@pytest.mark.parametrize("part", ["pairs.csv", "fixations.npz", "images"])
def test_unusable_data_folder_names_what_is_missing(tmp_path, part):
    for name in {"pairs.csv", "fixations.npz", "images"} - {part}:
        (tmp_path / name).write_text("image,condition,text,width,height,fixations\n")
    with pytest.raises(DataError, match=f"has no {part}"):
        GazeFolder(tmp_path)


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


def test_object_prompts():
    assert prompts_for("dog", 1)[0] == "a dog"
    assert "two dogs" in prompts_for("dog", 2)
    assert "several people" in prompts_for("person", 5)
    assert "an apple" in text_vectors.name_variants("a apple")


def test_mirrored_text_and_crop():
    assert _mirrored("the dog on the left of the right lamp") == "the dog on the right of the left lamp"
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[30:34, 40:44] = 255
    maps = np.zeros((2, 16, 16), np.float32)
    maps[:, 7:9, 10:11] = 1
    changed_pixels, changed_maps = _cropped(pixels, maps, 0.7, np.random.default_rng(0))
    y, x = np.unravel_index(changed_pixels[..., 0].argmax(), (64, 64))
    my, mx = np.unravel_index(changed_maps[0].argmax(), (16, 16))
    # Photo and maps were moved alike (a cell is four pixels).
    assert abs(y / 4 - my) < 1.5
    assert abs(x / 4 - mx) < 1.5


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


def test_held_out_names_spare_coco(gaze_data):
    names = text_vectors.true_vectors(gaze_data / "clip_text")
    held = text_vectors.held_out(names, 0.5)
    assert held.any()
    assert all(text.startswith("a thing") for text in names.where(held).texts)


# Losses


def test_losses_by_hand():
    target = torch.tensor([[0.5, 0.5]])
    logits = torch.tensor([[math.log(0.25), math.log(0.75)]])
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert losses.divergence(logits, target).item() == pytest.approx(expected, abs=1e-6)
    assert losses.divergence(logits, torch.softmax(logits, -1)).item() == pytest.approx(0, abs=1e-6)
    assert losses.density(torch.tensor([[1.0, 3.0]])).tolist() == [[0.25, 0.75]]
    perfect = losses.saliency_loss(logits, torch.softmax(logits, -1))
    assert perfect.item() == pytest.approx(0, abs=1e-5)


def test_losses_are_the_metrics():
    """Two implementations, one in torch and one in numpy, on random maps."""
    torch.manual_seed(0)
    logits, human = torch.randn(3, 6, 7), torch.rand(3, 6, 7)
    target = losses.density(human)
    predicted = torch.softmax(logits.flatten(-2), -1).reshape(logits.shape)
    for n in range(3):
        p, h = predicted[n].numpy(), target[n].numpy()
        assert losses.correlation(predicted, target)[n].item() == pytest.approx(metrics.cc(p, h), abs=1e-5)
        assert losses.divergence(logits, target)[n].item() == pytest.approx(
            metrics.kl_divergence(p, h), abs=1e-5
        )


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


# Whole runs

SETTINGS = {"size": 64, "epochs": 2, "batch_size": 4, "prompts": 4, "backbone_rate": 0.1}


@pytest.fixture(scope="module")
def sources(gaze_data, tiny_text_encoder, tiny_checkpoint):
    return Sources(gaze_data, tiny_text_encoder, start=tiny_checkpoint)


def tensors(path):
    from safetensors.torch import load_file

    return load_file(path)


def test_training_learns_resumes_and_logs(sources, tmp_path):
    config = changed(TrainConfig(), **SETTINGS)
    scores = train(sources, tmp_path / "whole", config)
    assert {"all", "pure", "salient", "nonsalient", "general", "guide"} == set(scores)
    lines = (tmp_path / "whole" / "train.log").read_text().splitlines()
    epochs = [line for line in lines if " epoch " in line]
    assert len(epochs) == 2
    first, second = (float(line.split("loss ")[1].split()[0]) for line in epochs)
    assert second < first
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["size"] == 64

    # Interrupted after the first epoch, then resumed: the same weights, the average included.
    class InterruptError(Exception):
        pass

    from salgan_edge.train.run import Run

    original = Run.save_state

    def interrupted(self, **state):
        original(self, **state)
        if state["epoch"] == 1:
            raise InterruptError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "save_state", interrupted)
        with pytest.raises(InterruptError):
            train(sources, tmp_path / "parts", config)
    train(sources, tmp_path / "parts", config, resume=True)
    states = [torch.load(tmp_path / run / "state.pt", weights_only=True) for run in ("whole", "parts")]
    for part in ("model", "average"):
        whole, parts = (s[part] if part == "model" else s[part]["model"] for s in states)
        for name, tensor in whole.items():
            assert torch.allclose(tensor, parts[name], atol=1e-6), name
    assert states[0]["average"]["updates"] == states[1]["average"]["updates"]

    # A run is not trained over, and not resumed with other settings.
    with pytest.raises(CheckpointError, match="add --resume"):
        train(sources, tmp_path / "whole", config)
    with pytest.raises(CheckpointError, match=r"other settings \(seed\)"):
        train(sources, tmp_path / "whole", changed(config, seed=5), resume=True)


def test_training_refuses_what_is_missing(tmp_path, gaze_data, tiny_text_encoder):
    with pytest.raises(DataError, match="does not exist"):
        train(Sources(tmp_path / "no", tiny_text_encoder), tmp_path / "run", TrainConfig())
    with pytest.raises(DataError, match=r"give --backbone, or a checkpoint with --from"):
        train(Sources(gaze_data, tiny_text_encoder), tmp_path / "run", TrainConfig())


@pytest.mark.parametrize("bad", [{"size": 100}, {"epochs": 0}, {"ema": 1.0}])
def test_settings_are_checked(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        changed(TrainConfig(), **bad)
    with pytest.raises(ValueError, match="cannot be divided"):
        changed(DistillConfig(), width=10, heads=4)


def test_command_refuses_bad_settings(gaze_data, monkeypatch, capsys, tmp_path):
    arguments = ["train", "--data", str(gaze_data), "--output", str(tmp_path), "--size", "100"]
    monkeypatch.setattr(sys, "argv", ["salgan-edge", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "no multiple of 32" in capsys.readouterr().err


def test_distillation(gaze_data, tiny_text_encoder, tmp_path):
    config = DistillConfig(width=16, layers=1, heads=2, epochs=3, batch_size=32)
    scores = distill(gaze_data, tmp_path / "run", tiny_text_encoder / "tokenizer.json", config)
    assert set(scores) == {"cosine", "recall_at_5"}
    losses_seen = [
        float(line.split("loss ")[1].split()[0])
        for line in (tmp_path / "run" / "train.log").read_text().splitlines()
        if "loss" in line
    ]
    assert losses_seen[-1] < 0.8 * losses_seen[0]
    from transformers import CLIPTextModelWithProjection

    model = CLIPTextModelWithProjection.from_pretrained(tmp_path / "run" / "text_encoder")
    assert model.config.hidden_size == 16
    assert model.dtype == torch.float16


def test_agreement_by_hand():
    names = text_vectors.TextVectors(["a", "b"], np.array([[1.0, 0.0], [0.0, 1.0]], np.float32))
    every = np.array([True, True])
    assert agreement(names.vectors, names, every) == {"cosine": pytest.approx(1), "recall_at_5": 1}
    swapped = agreement(names.vectors[::-1].copy(), names, every)
    assert swapped["cosine"] == pytest.approx(-1)


def test_evaluation_of_the_default_bundle(gaze_data, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["salgan-edge", "evaluate", "--data", str(gaze_data / "sjtu_tis"), "--json"]
    )
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["photos"] == 2
    assert set(scores["rows"]) == {"all", "pure", "general", "salient", "nonsalient"}
    assert scores["rows"]["all"]["CC"] == pytest.approx(
        np.mean([scores["rows"][c]["CC"] for c in ("pure", "general", "salient", "nonsalient")])
    )
    assert 0 <= scores["guide"] <= 1
