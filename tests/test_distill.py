"""The text encoder's teachers, phrases, loss and training; vectors worked by hand, tiny models."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import ROOT  # noqa: E402
from salgan_edge.train import distill as distillation  # noqa: E402
from salgan_edge.train.data import lessons, phrases, text_vectors  # noqa: E402
from salgan_edge.train.data.clip_teacher import ClipTeacher  # noqa: E402
from salgan_edge.train.data.distill_texts import DistillTexts, merged_from, split_tokens  # noqa: E402
from salgan_edge.train.data.gaze import GazeFolder  # noqa: E402
from salgan_edge.train.data.sentence_teacher import SentenceTeacher, sentence_features  # noqa: E402
from salgan_edge.train.data.text_vectors import TextVectors  # noqa: E402
from salgan_edge.train.distill import (  # noqa: E402
    Teaching,
    agreement,
    distill,
    distillation_loss,
    encode_texts,
)
from salgan_edge.train.distill_config import DistillConfig  # noqa: E402
from salgan_edge.train.networks.text_encoder import (  # noqa: E402
    compact_text_encoder,
    round_rows_to_bytes,
    save_text_encoder,
)

from salgan_edge import cli  # noqa: E402
from salgan_edge.errors import CheckpointError, DataError  # noqa: E402
from salgan_edge.tokenizer import ClipTokenizer  # noqa: E402

SMALL = DistillConfig(
    width=16, layers=1, heads=2, epochs=3, batch_size=64, compounds=20, spans=40, recombined=10,
    described=20, described_words=10,
)  # fmt: skip


@pytest.fixture
def teaching(gaze_data, tiny_text_encoder):
    return Teaching(gaze_data, tiny_text_encoder / "tokenizer.json")


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory, tiny_text_encoder):
    """A CLIP text model of another dimension, with random weights."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("teacher")
    save_text_encoder(compact_text_encoder(8, 1, 2, dimension=24), folder)
    (folder / "tokenizer.json").write_bytes((tiny_text_encoder / "tokenizer.json").read_bytes())
    return folder


def load(folder):
    from transformers import CLIPTextModelWithProjection

    return CLIPTextModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()


# Agreement and loss


def test_agreement_by_hand():
    names = TextVectors(["a", "b"], np.array([[1.0, 0.0], [0.0, 1.0]], np.float32))
    every = np.array([True, True])
    assert agreement(names.vectors, names, every) == {
        "cosine": pytest.approx(1), "recall_at_1": 1, "recall_at_5": 1,
    }  # fmt: skip
    swapped = agreement(names.vectors[::-1].copy(), names, every)
    assert swapped == {"cosine": pytest.approx(-1), "recall_at_1": 0, "recall_at_5": 1}
    assert agreement(names.vectors, names, ~every) == {}


def test_agreement_ranks_among_all_names():
    """Six names at angles of 60 degrees; the student of one of them points at the next but two."""
    angles = np.arange(6) * np.pi / 3
    names = TextVectors(list("abcdef"), np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32))
    of = np.array([True, False, False, False, False, False])
    # All other five are nearer than the name itself, which is opposite.
    scores = agreement(names.vectors[[3, 1, 2, 3, 4, 5]], names, of)
    assert scores == {"cosine": pytest.approx(-1), "recall_at_1": 0, "recall_at_5": 0}
    # At 50 degrees its own name, at 0, comes second after the one at 60.
    student = np.tile(np.array([np.cos(np.pi * 5 / 18), np.sin(np.pi * 5 / 18)], np.float32), (6, 1))
    scores = agreement(student, names, of)
    assert scores == {"cosine": pytest.approx(np.cos(np.pi * 5 / 18)), "recall_at_1": 0, "recall_at_5": 1}


def test_loss_by_hand():
    mean = torch.zeros(2)
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    ones = torch.ones(2)
    options = {"contrast": 1.0, "temperature": 0.5}
    assert distillation_loss(targets, targets, ones, mean, **options).item() == pytest.approx(0, abs=1e-6)
    swapped = distillation_loss(targets.flip(0), targets, ones, mean, **options).item()
    # Cosines of 0 twice; the softmax of (2, 0) is p and the student has it the other way round.
    p = 1 / (1 + np.exp(-2))
    assert swapped == pytest.approx(2 + (2 * p - 1) * 2, abs=1e-5)
    # The second text weighs nothing.
    one = distillation_loss(
        torch.tensor([[1.0, 0.0], [1.0, 0.0]]), targets, torch.tensor([1.0, 0.0]), mean, **options
    )
    assert one.item() == pytest.approx(0, abs=1e-6)


# Phrases


def test_attributes():
    assert phrases.attributes_of("Two red kites on the LEFT.") == [0, 7, 12]
    assert phrases.attributes_of("a dog") == []
    assert phrases.attributes_of("left, left and upper") == [0, 2]


def test_phrases_are_what_they_say():
    random = np.random.default_rng(0)
    captions = ["A man rides a big horse.", "Dogs!"]
    for span in phrases.spans(captions, 50, random):
        assert span in "a man rides a big horse" or span == "dogs"
    known = ["a baseball bat", "a flower pot", "a dog"]
    made = phrases.recombined(known, 50, random)
    assert set(made) == {"a baseball pot", "a flower bat", "a baseball dog", "a flower dog"}
    for text in phrases.described(["kite", "tights"], random):
        assert "kite" in text or "tights" in text
        assert "tightses" not in text
    texts, pairs = phrases.compounds(known, 20, random)
    for text, (a, b) in zip(texts, pairs, strict=True):
        first, second = (text_vectors.bare_name(known[n]) for n in (a, b))
        assert text.split(" ", 1)[1].startswith(first)
        assert text.endswith(second)


def test_attribute_directions_leave_names_apart(gaze_data):
    """What is added lies across the names: their cosines with a text keep their order."""
    names = text_vectors.true_vectors(gaze_data / "clip_text")
    mean = names.vectors.mean(0)
    plain = TextVectors(["a dog on the left", "a dog on the right", "a dog"], names.vectors[:1].repeat(3, 0))
    got = lessons.with_attributes(plain, names, mean, 0.2).vectors
    assert np.allclose(got[2], plain.vectors[2], atol=1e-6)
    assert np.allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)
    assert got[0] @ got[1] < 1 - 0.5 * 0.2**2
    assert np.abs((names.vectors - mean) @ (got[0] * np.sqrt(1 + 0.2**2) - plain.vectors[0])).max() < 0.02
    assert np.array_equal(lessons.with_attributes(plain, names, mean, 0.0).vectors[0], plain.vectors[0])


# Lessons: what must not be taught


class Letters:
    """Features of a text that a sentence model could have: which letters it has."""

    def __call__(self, texts):
        table = np.array([[text.count(chr(97 + n)) for n in range(26)] for text in texts], np.float32)
        return table[:, None] + 0.01


@pytest.mark.parametrize("estimated", [False, True])
def test_lessons_keep_secrets(gaze_data, estimated):
    sentences = (lambda names: SentenceTeacher(names, Letters())) if estimated else None
    made = lessons.precomputed_lessons(gaze_data, SMALL, sentences)
    unseen = {p.text for p in GazeFolder(gaze_data / "sjtu_tis").pairs if p.split != "train"} - {""}
    seen = {p.text for p in GazeFolder(gaze_data / "sjtu_tis").pairs if p.split == "train"} - {""}
    taught = set(made.others.texts)
    assert seen <= taught
    assert not unseen & taught
    assert 0 < made.held_out.sum() < len(made.names)
    for name in made.names.where(made.held_out).texts:
        assert not set(text_vectors.name_variants(name)) & taught
    assert len(made.weights) == len(made.others)
    assert ((made.weights >= 0) & (made.weights <= 1)).all()
    assert ("the" in {text.split()[0] for text in taught}) or not estimated
    if estimated:
        # Parts of held-back captions are not taught either.
        assert not any(f"photo {p}" in text for p in _numbers(unseen) for text in taught if len(text) > 30)


def _numbers(texts):
    return {text.split()[-1] + "$" for text in texts}


def test_compounds_are_taught_between_their_parts(gaze_data):
    made = lessons.precomputed_lessons(gaze_data, SMALL, None)
    known = made.names.where(~made.held_out)
    of = {text_vectors.bare_name(t): v for t, v in zip(known.texts, known.vectors, strict=True)}
    mean = known.vectors.mean(0)
    pairs = [(t, v) for t, v in zip(made.others.texts, made.others.vectors, strict=True) if " and " in t]
    assert pairs
    for text, vector in pairs:
        first, second = (text_vectors.bare_name(part) for part in text.split(" and "))
        expected = (of[first] - mean + of[second] - mean) / np.sqrt(2) + mean
        assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)


def test_lessons_survive_a_file(gaze_data, tmp_path):
    made = lessons.precomputed_lessons(gaze_data, SMALL, None)
    made.save(tmp_path / "l.npz")
    back = lessons.Lessons.load(tmp_path / "l.npz")
    assert (back.names.texts, back.others.texts) == (made.names.texts, made.others.texts)
    assert np.array_equal(back.held_out, made.held_out)
    assert np.abs(back.others.vectors - made.others.vectors).max() < 1e-3


def test_texts_of_a_file(tmp_path):
    (tmp_path / "t.txt").write_text("a red kite\n\n  two dogs \n")
    assert lessons.read_texts(tmp_path / "t.txt") == ["a red kite", "two dogs"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="holds no text"):
        lessons.read_texts(tmp_path / "empty.txt")
    with pytest.raises(DataError, match="cannot be read"):
        lessons.read_texts(tmp_path / "no.txt")


# The sentence teacher


def test_sentence_teacher_interpolates():
    """Names that it was fitted on come out near their vectors, and a new text near its like."""
    random = np.random.default_rng(0)
    names = ["a cat", "a dog", "a teapot", "a lamp", "a zebra", "a kiwi", "a bus", "a fork"]
    vectors = random.normal(size=(8, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    teacher = SentenceTeacher(TextVectors(names, vectors), Letters())
    mean = vectors.mean(0)

    def nearest(texts):
        got, sure = teacher.estimate(texts)
        assert np.allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
        assert ((sure >= 0) & (sure <= 1)).all()
        centred = got - mean
        centred /= np.linalg.norm(centred, axis=1, keepdims=True)
        table = vectors - mean
        return (centred @ (table / np.linalg.norm(table, axis=1, keepdims=True)).T).argmax(1), sure

    assert nearest(names)[0].tolist() == list(range(8))
    found, sure = nearest(["the teapots", "xylophone quiz"])
    assert found[0] == 2
    assert sure[0] > sure[1]


@pytest.fixture(scope="session")
def tiny_sentence_model(tmp_path_factory):
    """A BERT of three layers with random weights that knows four words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sentence_model")
    words = ["[PAD]", "[UNK]", "a", "dog", "red", "kite"]
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(folder)
    BertModel(
        BertConfig(
            vocab_size=6, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16
        )
    ).save_pretrained(folder)
    return folder


def test_sentence_model_from_a_folder(tiny_sentence_model, tmp_path):
    """Mean pooling over words, not over padding: a text alone and beside a longer one."""
    from transformers import BertModel

    features = sentence_features(tiny_sentence_model)
    got = features(["a dog", "a red kite a red kite"])
    assert got.shape == (2, 4, 8)
    model = BertModel.from_pretrained(tiny_sentence_model).eval()
    with torch.inference_mode():
        states = model(input_ids=torch.tensor([[2, 3]]), output_hidden_states=True).hidden_states
    for layer, state in enumerate(states):
        assert np.abs(got[0, layer] - state[0].mean(0).numpy()).max() < 1e-5
    with pytest.raises(DataError, match="holds no sentence model"):
        sentence_features(tmp_path / "no")


def test_command_with_a_sentence_model(
    gaze_data, tiny_sentence_model, tiny_text_encoder, tmp_path, monkeypatch, capsys
):
    (tmp_path / "texts.txt").write_text("a purple kite over the sea\n")
    monkeypatch.setattr(
        sys, "argv", [
            "salgan-edge", "distill", "--data", str(gaze_data), "--output", str(tmp_path / "run"),
            "--sentence-model", str(tiny_sentence_model), "--texts", str(tmp_path / "texts.txt"),
            "--tokenizer", str(tiny_text_encoder / "tokenizer.json"), "--epochs", "1", "--width", "8",
            "--layers", "1", "--held-out", "0", "--batch-size", "4096",
        ],
    )  # fmt: skip
    # As many phrases as are made of the real names would take a minute.
    monkeypatch.setattr(lessons, "_phrases", lambda *_: ["two red kites"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert "text_encoder: held-out vectors, none" in capsys.readouterr().out
    made = lessons.Lessons.load(tmp_path / "run" / "lessons.npz")
    assert {"a purple kite over the sea", "two red kites", "lamp"} <= set(made.others.texts)
    assert not made.held_out.any()


# A CLIP text model as teacher


def test_teacher_from_a_folder(gaze_data, tiny_teacher, tiny_text_encoder, tmp_path):
    """The student takes the teacher's dimension; its lessons are the teacher's vectors."""
    (tmp_path / "texts.txt").write_text("a purple kite over the sea\n")
    teaching = Teaching(gaze_data, tiny_text_encoder / "tokenizer.json", texts=tmp_path / "texts.txt")
    config = dataclasses.replace(SMALL, teacher=str(tiny_teacher), epochs=1, width=8, batch_size=512)
    # The whole vocabulary would take half a minute here.
    vocabulary = ClipTeacher.vocabulary
    try:
        ClipTeacher.vocabulary = lambda self: vocabulary(self)[:200]
        scores = distill(teaching, tmp_path / "run", config)
    finally:
        ClipTeacher.vocabulary = vocabulary
    assert set(scores) == {"cosine", "recall_at_1", "recall_at_5"}
    assert load(tmp_path / "run" / "text_encoder").config.projection_dim == 24
    made = lessons.Lessons.load(tmp_path / "run" / "lessons.npz")
    assert "a purple kite over the sea" in made.others.texts
    texts = ["a purple kite over the sea", made.others.texts[7]]
    expected = encode_texts(load(tiny_teacher), ClipTokenizer(tiny_teacher / "tokenizer.json"), texts)
    got = [made.others.vectors[made.others.texts.index(text)] for text in texts]
    assert np.abs(np.array(got) - expected).max() < 1e-3
    assert (made.weights == 1).all()


def test_teacher_keeps_its_vectors(tiny_teacher, tmp_path):
    reported = []
    first = ClipTeacher(str(tiny_teacher), tmp_path, lambda done, of: reported.append((done, of)))
    vectors = first.encode(["a dog", "word " * 100, "a dog"])
    assert np.array_equal(vectors[0], vectors[2])
    assert reported == [(0, 2)]
    again = ClipTeacher(str(tiny_teacher), tmp_path, lambda done, of: reported.append((done, of)))
    assert np.array_equal(again.encode(["a dog", "a cat"])[0], vectors[0])
    assert reported == [(0, 2), (0, 1)]
    vocabulary = again.vocabulary()
    assert {"dog", "the", "zebra"} <= set(vocabulary)
    assert all(word.isalpha() and word.islower() for word in vocabulary)
    np.savez(tmp_path / "teacher.npz", source=np.array("another"), texts=np.array(["x"]), vectors=vectors[:1])
    with pytest.raises(DataError, match="has the vectors of another"):
        ClipTeacher(str(tiny_teacher), tmp_path, lambda *_: None)


def test_teacher_that_cannot_be_had(gaze_data, monkeypatch, capsys, tmp_path):
    # The environment variable of the same name is read when the package is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    arguments = [
        "distill", "--data", str(gaze_data), "--output", str(tmp_path / "run"), "--teacher", "nobody/no-model",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["salgan-edge", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("error: cannot load the text encoder nobody/no-model")
    assert lines[0].endswith("Offline, pass the path of a local folder with --teacher")


def test_texts_need_something_that_embeds_them(teaching, tmp_path):
    (tmp_path / "t.txt").write_text("a dog\n")
    with pytest.raises(DataError, match="give --sentence-model"):
        distill(dataclasses.replace(teaching, texts=tmp_path / "t.txt"), tmp_path / "run", SMALL)


# The training


def test_tokens_fall_apart():
    """4 was merged from 3 and 2, and 3 from 0 and 1."""
    parts = {3: (0, 1), 4: (3, 2)}
    random = np.random.default_rng(0)
    assert split_tokens([4, 5, 3], parts, 1.0, random) == [0, 1, 2, 5, 0, 1]
    assert split_tokens([4, 5, 3], parts, 0.0, random) == [4, 5, 3]
    several = {tuple(split_tokens([4], parts, 0.5, random)) for _ in range(50)}
    assert several == {(4,), (3, 2), (0, 1, 2)}


def test_merges_spell_the_token(tiny_text_encoder):
    from tokenizers import Tokenizer

    file = tiny_text_encoder / "tokenizer.json"
    tokenizer, parts = Tokenizer.from_file(str(file)), merged_from(file)
    zebra = tokenizer.token_to_id("zebra</w>")
    letters = split_tokens([zebra], parts, 1.0, np.random.default_rng(0))
    assert [tokenizer.id_to_token(i) for i in letters] == ["z", "e", "b", "r", "a</w>"]


def test_batches(gaze_data, tiny_text_encoder):
    """Each text once per epoch, names as often as told; ends and padding are end tokens."""
    file = tiny_text_encoder / "tokenizer.json"
    made = lessons.precomputed_lessons(gaze_data, SMALL, None)
    long = TextVectors(
        [*made.others.texts, "word " * 100], made.others.vectors[[*range(len(made.others)), 0]]
    )
    made = dataclasses.replace(made, others=long, weights=np.append(made.weights, np.float32(1)))
    config = dataclasses.replace(SMALL, name_repeats=3, split_tokens=0.5)
    texts = DistillTexts(made, file, config)
    known = int((~made.held_out).sum())
    random = np.random.default_rng(0)
    epoch = texts.batches(random)
    assert len(epoch) == texts.steps
    counts = np.bincount(np.concatenate(epoch))
    assert counts.tolist() == [3] * known + [1] * len(made.others)
    end = ClipTokenizer(file).end
    for chosen in epoch * 2:
        ids, target, weight = texts.batch(chosen, random)
        assert ids.shape[1] <= 77
        assert (ids[:, -1] == end).all()
        assert (ids[:, 0] == end - 1).all()
        assert (len(target), len(weight)) == (len(chosen), len(chosen))


def test_distillation(teaching, tmp_path):
    scores = distill(teaching, tmp_path / "run", dataclasses.replace(SMALL, batch_size=16))
    assert set(scores) == {"cosine", "recall_at_1", "recall_at_5"}
    losses_seen = [
        float(line.split("loss ")[1].split()[0])
        for line in (tmp_path / "run" / "train.log").read_text().splitlines()
        if "loss" in line
    ]
    assert losses_seen[-1] < 0.9 * losses_seen[0]
    model = load(tmp_path / "run" / "text_encoder")
    assert (model.config.hidden_size, model.config.projection_dim) == (16, 512)
    made = lessons.Lessons.load(tmp_path / "run" / "lessons.npz")
    tokenizer = ClipTokenizer(tmp_path / "run" / "text_encoder" / "tokenizer.json")
    # The figures are those of the saved, rounded encoder.
    student = encode_texts(model, tokenizer, made.names.texts)
    assert agreement(student, made.names, made.held_out) == pytest.approx(scores)


def test_resumed_equals_uninterrupted(teaching, tmp_path, monkeypatch):
    distill(teaching, tmp_path / "whole", SMALL)
    measured, calls = distillation._measured, []

    def stopped(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measured(*arguments)

    monkeypatch.setattr(distillation, "_measured", stopped)
    with pytest.raises(KeyboardInterrupt):
        distill(teaching, tmp_path / "parts", SMALL)
    monkeypatch.setattr(distillation, "_measured", measured)
    with pytest.raises(CheckpointError, match="add --resume"):
        distill(teaching, tmp_path / "parts", SMALL)
    with pytest.raises(CheckpointError, match="other settings"):
        distill(teaching, tmp_path / "parts", dataclasses.replace(SMALL, seed=2), resume=True)
    distill(teaching, tmp_path / "parts", SMALL, resume=True)
    whole, parts = (load(tmp_path / run / "text_encoder").state_dict() for run in ("whole", "parts"))
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())


@pytest.mark.parametrize(
    "bad", [{"layers": 0}, {"ema": 1.0}, {"temperature": 0.0}, {"spans": -1}, {"held_out": 1.5}]
)
def test_settings_are_checked(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        dataclasses.replace(SMALL, **bad)
    with pytest.raises(ValueError, match="cannot be divided"):
        dataclasses.replace(SMALL, width=10, heads=4)


# The token table


def test_rounding_by_hand():
    table = torch.tensor([[1.0, -0.3, 0.0], [0.0, 0.0, 0.0], [127.6, 1.0, -64.0]])
    round_rows_to_bytes(table)
    # 1.0 lies between 64 and 128 parts of 1/64; -0.3 is -19.2 of them. 127.6 would be 128 parts of 1.
    expected = torch.tensor([[1.0, -19 / 64, 0.0], [0.0, 0.0, 0.0], [128.0, 0.0, -64.0]])
    assert torch.equal(table, expected)


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1.0, 100.0])
def test_rounding_twice_changes_nothing(scale):
    torch.manual_seed(0)
    original = torch.randn(500, 33) * scale
    table = original.clone()
    round_rows_to_bytes(table)
    again = table.clone()
    round_rows_to_bytes(again)
    assert torch.equal(table, again)
    # Every value is a float16, and off by at most half a part of the row's largest value.
    assert torch.equal(table.half().float(), table)
    parts = original.abs().amax(-1, keepdim=True) / 63.5
    assert ((table - original).abs() <= (parts / 2).clamp(min=2**-25)).all()


def test_saved_encoder_is_the_one_in_memory(tmp_path):
    torch.manual_seed(0)
    model = compact_text_encoder(8, 1, 2)
    save_text_encoder(model, tmp_path)
    back = load(tmp_path).state_dict()
    assert all(torch.equal(tensor, back[name]) for name, tensor in model.state_dict().items())


@pytest.mark.shared
def test_lessons_of_the_real_vectors():
    data = ROOT.parent / "shared" / "data"
    if not (data / "clip_text").exists():
        pytest.skip("../shared is not there")
    made = lessons.precomputed_lessons(data, DistillConfig(), None)
    assert (len(made.names), int(made.held_out.sum())) == (1585, 133)
    assert len(made.others) > 55_000
