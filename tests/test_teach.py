"""Targets softened by teachers: mixed by hand, kept with the photo, made once."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import random_generator  # noqa: E402
from salgan_edge.train.checkpoint import Description, load_generator, save_generator  # noqa: E402
from salgan_edge.train.config import TrainConfig, changed  # noqa: E402
from salgan_edge.train.data import text_vectors  # noqa: E402
from salgan_edge.train.data.samples import TrainingSet, _mixed  # noqa: E402
from salgan_edge.train.networks.paper import PaperGenerator  # noqa: E402
from salgan_edge.train.teach import Teachers, soften  # noqa: E402

from salgan_edge.errors import CheckpointError  # noqa: E402
from salgan_edge.gaze.detector import Detection  # noqa: E402
from salgan_edge.gaze.folder import GazeFolder, third  # noqa: E402


@pytest.fixture
def training(gaze_data):
    folder = GazeFolder(gaze_data / "sjtu_tis")
    true = text_vectors.true_vectors(gaze_data / "clip_text")
    dog = [Detection("dog", 0.9, (0.2, 0.2, 0.6, 0.6))]
    random = np.random.default_rng(0)
    return TrainingSet(
        [folder], {f"sjtu_tis/{pair.image}": dog for pair in folder.pairs},
        lambda _: random.integers(0, 256, (64, 64, 3), np.uint8),
        lambda texts: np.stack([np.full(512, len(text) / 1000, np.float32) for text in texts]),
        true, true, changed(TrainConfig(), size=64, prompts=6), 8,
    )  # fmt: skip


def checkpoint(path, seed, size=64, left_out="nothing"):
    torch.manual_seed(seed)
    model = random_generator(size)
    torch.nn.init.normal_(model.head.weight, std=0.3)
    training = {"config": {"leave_out": left_out}}
    save_generator(model, Description("edge", {"size": size}, training=training), path)
    return model


def test_mixture_by_hand():
    target, predicted = np.array([[1.0, 3.0]], np.float32), np.array([[5.0, 5.0]], np.float32)
    # Densities (.25, .75) and (.5, .5); half of each: (.375, .625).
    assert _mixed(target, predicted, 0.5) == pytest.approx(np.array([[0.6, 1.0]]))
    assert _mixed(target, predicted, 0.0) == pytest.approx(np.array([[1 / 3, 1.0]]))


def test_teachers_give_their_mean(tmp_path):
    models = [checkpoint(tmp_path / f"{n}.safetensors", n) for n in range(2)]
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    vectors = np.random.default_rng(1).normal(size=(3, 512)).astype(np.float32)
    product = np.zeros(len(vectors), np.int64)
    densities = Teachers.maps(models, photo, vectors, product, 8)
    assert densities.sum(axis=(1, 2)) == pytest.approx(np.ones(3), abs=1e-5)
    expected = []
    with torch.inference_mode():
        for model in models:
            for image in (photo, photo[:, ::-1].copy()):
                maps = model(torch.from_numpy(image)[None], torch.from_numpy(vectors)[None])[0].numpy()
                expected.append(maps / maps.sum(axis=(1, 2), keepdims=True))
    expected[1], expected[3] = expected[1][:, :, ::-1], expected[3][:, :, ::-1]
    assert densities == pytest.approx(np.mean(expected, axis=0), abs=1e-6)
    # The product of it all: the prediction for a mirrored photo is mirrored.
    mirrored = Teachers.maps(models[:1], photo[:, ::-1].copy(), vectors, product, 8)
    alone = Teachers.maps(models[:1], photo, vectors, product, 8)
    assert mirrored[:, :, ::-1] == pytest.approx(alone, abs=1e-6)


def test_targets_are_softened_and_kept(training, tmp_path):
    teacher = checkpoint(tmp_path / "teacher.safetensors", 1, size=96)
    photo = training.photos[0]
    texts, vectors, domains = training.questions(photo)
    assert texts == ["", *(text for text, _ in photo.gaze[1:]), "a dog"]
    assert len(vectors) == len(texts)
    assert not vectors[0].any()
    before = [target.copy() for _, target in photo.gaze]
    soften(training, [tmp_path / "teacher.safetensors"], 0.25, tmp_path / "maps.npz")
    predicted = Teachers.maps([teacher], photo.pixels, vectors, domains, 16)
    for n, (_, target) in enumerate(photo.gaze):
        mixture = 0.75 * before[n] / before[n].sum() + 0.25 * predicted[n]
        assert target == pytest.approx(mixture / mixture.max(), abs=2e-3)
    assert photo.taught["dog"] == pytest.approx(predicted[-1], abs=1e-4)
    # Made once: the file serves where the teacher is no longer there.
    kept = (tmp_path / "maps.npz").read_bytes()
    (tmp_path / "teacher.safetensors").unlink()
    soften(training, [tmp_path / "teacher.safetensors"], 0.25, tmp_path / "maps.npz")
    assert (tmp_path / "maps.npz").read_bytes() == kept
    assert training.batch(range(4), np.random.default_rng(0)).target.isfinite().all()


def test_no_teacher_speaks_of_what_it_learned(training, tmp_path):
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.safetensors")
        checkpoint(paths[-1], number, left_out=f"{number + 1}/3")
    teachers = Teachers(paths)
    names = [photo.name.split("/")[1] for photo in training.photos]
    assert {third(name) for name in names} == {"1/3", "2/3", "3/3"}
    for name in names:
        (model,) = teachers.about(name)
        expected = load_generator(paths[int(third(name)[0]) - 1])[0]
        assert torch.equal(model.head.weight, expected.head.weight)
    with pytest.raises(CheckpointError, match="all teachers were trained on"):
        soften(training, paths[:2], 0.5, tmp_path / "maps.npz")
    assert not (tmp_path / "maps.npz").exists()


def test_a_third_is_left_out(gaze_data):
    from salgan_edge.train.setup import fitted_folder

    folder = GazeFolder(gaze_data / "sjtu_tis")
    everything = {pair.image for pair in folder.select("train")}
    parts = []
    for part in ("1/3", "2/3", "3/3"):
        fitted = fitted_folder(folder, changed(TrainConfig(), leave_out=part))
        parts.append(everything - {pair.image for pair in fitted.select("train")})
        assert {pair.image for pair in fitted.select("validation")} == {
            pair.image for pair in folder.select("validation")
        }
    assert set.union(*parts) == everything
    assert sum(map(len, parts)) == len(everything)
    both = fitted_folder(folder, changed(TrainConfig(), fit="train+validation"))
    assert {pair.image for pair in both.select("train")} == everything | {
        pair.image for pair in folder.select("validation")
    }
    assert not both.select("validation")


def test_other_presets_do_not_teach(tmp_path):
    save_generator(PaperGenerator(16), Description("paper", {"size": 16}), tmp_path / "paper.safetensors")
    with pytest.raises(CheckpointError, match="preset paper: edge was expected"):
        Teachers([tmp_path / "paper.safetensors"])
