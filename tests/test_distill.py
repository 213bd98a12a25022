"""The text encoder's teachers, phrases, loss and training; vectors worked by hand, tiny models."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import ROOT  # noqa: E402
from salgan_edge.train import distill as distillation  # noqa: E402
from salgan_edge.train.config import DistillConfig  # noqa: E402
from salgan_edge.train.data import lessons, phrases, text_vectors  # noqa: E402
from salgan_edge.train.data.lessons import DistillTexts, merged_from, split_tokens  # noqa: E402
from salgan_edge.train.data.text_teachers import (  # noqa: E402
    ClipTeacher,
    SentenceTeacher,
    WordingSteps,
    sentence_features,
)
from salgan_edge.train.data.text_vectors import TextVectors, TrueTexts  # noqa: E402
from salgan_edge.train.distill import (  # noqa: E402
    Teaching,
    agreement,
    distill,
    distillation_loss,
)
from salgan_edge.train.networks.text_encoder import (  # noqa: E402
    compact_text_encoder,
    encode_texts,
    round_rows_to_bytes,
    save_text_encoder,
)

from salgan_edge.errors import CheckpointError, DataError  # noqa: E402
from salgan_edge.gaze.folder import GazeFolder  # noqa: E402
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


def test_every_word_is_described():
    """No word is left out as long as there are phrases for all."""
    words = [f"{letter}{letter}x" for letter in "abcdefgh"]
    config = dataclasses.replace(SMALL, spans=0, recombined=0, described=0, described_words=16)
    made = lessons._phrases(["a dog"], words, [], config, np.random.default_rng(0))
    assert all(any(word in phrase for phrase in made) for word in words)


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
    sentences = (lambda names, weights: SentenceTeacher(names, Letters(), weights)) if estimated else None
    made = lessons.precomputed_lessons(gaze_data, SMALL, sentences)
    unseen = {p.text for p in GazeFolder(gaze_data / "sjtu_tis").pairs if p.split != "train"} - {""}
    seen = {p.text for p in GazeFolder(gaze_data / "sjtu_tis").pairs if p.split == "train"} - {""}
    taught = set(made.others.texts)
    assert seen <= taught
    assert not unseen & taught
    assert 0 < made.held_out.sum() < len(made.true)
    for name in made.true.where(made.held_out).texts.texts:
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
    known = made.true.where(~made.held_out).texts
    of = {text_vectors.bare_name(t): v for t, v in zip(known.texts, known.vectors, strict=True)}
    mean = known.vectors.mean(0)
    pairs = [(t, v) for t, v in zip(made.others.texts, made.others.vectors, strict=True) if " and " in t]
    assert pairs
    for text, vector in pairs:
        first, second = (text_vectors.bare_name(part) for part in text.split(" and "))
        expected = (of[first] - mean + of[second] - mean) / np.sqrt(2) + mean
        assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)


@pytest.fixture
def more_vectors(gaze_data, tmp_path):
    """The data with further true vectors: names in other wordings, new things, an unknown prompt."""
    shutil.copytree(gaze_data, tmp_path / "data")
    names = text_vectors.true_vectors(gaze_data / "clip_text")
    held = names.where(text_vectors.held_out(names, 0.3)).texts[0]
    imagenet = [f"a beast{n}" for n in range(20)]
    photo = "object-centric-ovd/lvis photo"
    rows = [
        *((text, "clip_lt/text_features.pt") for text in [*imagenet, held]),
        *((f"a photo of {text}", "clip_lt/text_features2.pt") for text in imagenet),
        *((f"a photo of {text}", photo) for text in ["a dog", "a cat", held]),
        (f"{text_vectors.bare_name(held)}s", "moodboard"), ("red hair", "moodboard"),
        ("ego4d noun: paper_bag_(bag,_sack)", "ego4d taxonomy (prompt unknown)"),
        ("ego4d verb: wash", "ego4d taxonomy (prompt unknown)"),
    ]  # fmt: skip
    table = np.random.default_rng(1).normal(size=(len(rows), 512)) + 1
    np.savez(
        tmp_path / "data" / "clip_text" / "true_vit_b32_more.npz",
        texts=np.array([text for text, _ in rows]), sources=np.array([source for _, source in rows]),
        vectors=table.astype(np.float16),
    )  # fmt: skip
    return tmp_path / "data", held


def test_further_true_vectors(more_vectors):
    """Sources have a wording and a weight; labels are read as words; verbs are left out."""
    data, _ = more_vectors
    names = text_vectors.true_vectors(data / "clip_text")
    true = text_vectors.all_true_vectors(data / "clip_text")
    assert true.texts.texts[: len(names)] == names.texts
    assert len(true) == len(names) + 20 + 1 + 20 + 3 + 2 + 1
    assert np.allclose(np.linalg.norm(true.texts.vectors, axis=1), 1, atol=1e-5)
    of = {
        (text, wording): (float(weight), table)
        for text, wording, weight, table in zip(
            true.texts.texts, true.wordings, true.weights, true.tables, strict=True
        )
    }
    assert of["a dog", "name"] == (1, "names")
    assert of["a beast3", "name"] == (1, "imagenet")
    assert of["a photo of a beast3", "photo"] == (1, "")
    assert of["red hair", "bare"] == (1, "")
    assert of["paper bag", "unknown"] == (pytest.approx(0.3), "")
    assert not any("wash" in text for text in true.texts.texts)


def test_further_true_vectors_of_no_known_source(gaze_data, tmp_path):
    shutil.copytree(gaze_data / "clip_text", tmp_path / "clip_text")
    np.savez(
        tmp_path / "clip_text" / "true_vit_b32_more.npz",
        texts=["a dog"], sources=["a rumour"], vectors=np.ones((1, 512), np.float16),
    )  # fmt: skip
    with pytest.raises(DataError, match="of the source a rumour"):
        text_vectors.all_true_vectors(tmp_path / "clip_text")


def test_a_thing_is_held_out_in_every_wording(more_vectors):
    """The photo of a held-out name, its plural and another source's vector of it are secret too."""
    data, held = more_vectors
    true = text_vectors.all_true_vectors(data / "clip_text")
    chosen = text_vectors.held_out_things(true, 0.3)
    secret = true.where(chosen)
    bare = text_vectors.bare_name(held)
    assert {held, f"a photo of {held}", f"{bare}s"} <= set(secret.texts.texts)
    assert secret.texts.texts.count(held) == 2
    # New ImageNet names go by their own hash, in both wordings alike.
    beasts = [
        t
        for t, table in zip(secret.texts.texts, secret.tables, strict=True)
        if t.startswith("a beast") and table
    ]
    expected = [
        f"a beast{n}" for n in range(20)
        if int(hashlib.sha256(f"beast{n}".encode()).hexdigest()[:8], 16) < 0.3 * 2**32
    ]  # fmt: skip
    assert 0 < len(beasts) < 20
    assert beasts == expected
    assert {f"a photo of {beast}" for beast in beasts} <= set(secret.texts.texts)
    # COCO's never are, not even in other wordings.
    assert not {"a dog", "a photo of a dog", "a cat", "a photo of a cat"} & set(secret.texts.texts)
    config = dataclasses.replace(SMALL, held_out=0.3)
    made = lessons.precomputed_lessons(data, config, lambda n, w: SentenceTeacher(n, Letters(), w))
    keys = {text_vectors.thing_key(text) for text in secret.texts.texts}
    assert not keys & {text_vectors.thing_key(text) for text in made.others.texts}
    # The unknown prompt teaches by way of the steps alone.
    assert "unknown" not in made.true.wordings


def test_texts_of_training_photos_are_taught(gaze_data, tmp_path):
    """Wordings of photos by the split of their gaze folder; those of unseen photos are not taught."""
    data = tmp_path / "data"
    shutil.copytree(gaze_data, data)
    split = {pair.image: pair.split for pair in GazeFolder(data / "sjtu_tis").pairs}
    assert {"train", "test"} <= set(split.values())
    (data / "phrases").mkdir()
    lines = ["set,image,kind,texts,boxes"]
    lines += [f"sjtu_tis,{image},noun,a gadget of {image} / gadget {image}," for image in split]
    (data / "phrases" / "labels.csv").write_text("\n".join(lines) + "\n")
    made = lessons.precomputed_lessons(data, SMALL, lambda n, w: SentenceTeacher(n, Letters(), w))
    for image, part in split.items():
        wordings = {f"a gadget of {image}", f"gadget {image}"}
        assert len(wordings & set(made.others.texts)) == (2 if part == "train" else 0)


# Wordings


def test_wordings():
    assert [text_vectors.wording_of(t) for t in ("dog", "two dogs", "An owl", "the owl", "a photo of a dog")] == [
        "bare", "bare", "name", "name", "photo",
    ]  # fmt: skip
    assert text_vectors.reworded("a owl", "photo") == "a photo of an owl"
    assert text_vectors.reworded("a photo of an owl", "bare") == "owl"
    assert text_vectors.same_wording("dog") == ["dog"]
    assert text_vectors.same_wording("a owl") == ["a owl", "an owl", "the owl", "my owl"]
    assert text_vectors.same_wording("a photo of a owl") == ["a photo of a owl", "a photo of an owl"]
    same = ("a photo of a Golf-cart", "golf carts", "my golf cart", "the golfcarts", "golf_cart")
    assert {text_vectors.thing_key(text) for text in same} == {"golfcart"}
    assert [text_vectors.thing_key(t) for t in ("boxes", "puppies", "glass", "shoes")] == [
        "box", "puppy", "glass", "shoe",
    ]  # fmt: skip


def _turned(degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles), np.zeros(len(angles))], 1).astype(np.float32)


def test_wording_step_by_hand():
    """Twelve things whose photos lie a fixed step away: the step is found, and the way back."""
    things = [f"thing{n}" for n in range(12)]
    names = _turned(np.arange(12) * 30.0)
    step = np.array([0, 0, 0.75], np.float32)
    # Every name has length 1 and the step is across: the photos have length 1.25.
    photos = (names + step) / 1.25
    true = TrueTexts(
        TextVectors([f"a {t}" for t in things] + [f"a photo of a {t}" for t in things], np.concatenate([names, photos])),
        ["name"] * 12 + ["photo"] * 12, np.ones(24, np.float32), ["names"] * 12 + [""] * 12,
    )  # fmt: skip
    steps = WordingSteps(true)
    # The mean moves by (0, 0, 0.6). About it the photo is 0.8 of the name: W = -0.2 G / (G + r), where the
    # pairs spread evenly over two axes, G = 6 on each, and the ridge r is their mean squared length, 1.
    scale = 1 - 0.2 * 6 / 7
    new = _turned([45.0])
    expected = new * scale + np.array([0, 0, 0.6])
    expected /= np.linalg.norm(expected)
    got = steps.reworded(new, ["photo"])
    assert np.allclose(got, expected, atol=1e-5)
    assert np.array_equal(steps.reworded(new, ["name"]), new)
    # There is no step to bare words: nothing is learnt from no pair.
    assert np.array_equal(steps.reworded(new, ["bare"]), new)
    back = WordingSteps(true).as_names(true.where(true.in_wording("photo")))
    assert back[0].texts[0] == "a thing0"
    assert np.allclose(back[0].vectors, names, atol=1e-5)


def test_wordings_that_lack_are_made():
    """Each thing once as a name, true ones first; what lacks is told apart from what is there."""
    vectors = _turned([0.0, 90.0, 0.0, 180.0])
    true = TrueTexts(
        TextVectors(["a dog", "a dog", "a photo of a cat", "blue"], vectors),
        ["name", "name", "photo", "bare"], np.array([1, 1, 1, 1], np.float32), [""] * 4,
    )  # fmt: skip
    steps = WordingSteps(true)
    names, weights = steps.as_names(true)
    # Without a step to learn the cat and the bare word are left out; the dog is the mean of both.
    assert names.texts == ["a dog"]
    assert np.allclose(names.vectors, _turned([45.0]), atol=1e-6)
    assert weights.tolist() == [1]
    made, weights = steps.missing(true)
    assert made.texts == ["dog", "a photo of a dog"]
    assert weights.tolist() == [1, 1]


def test_weights_of_anchors():
    """A vector that is hardly trusted hardly moves the estimate."""
    random = np.random.default_rng(0)
    texts = ["a cat", "a dog", "a teapot", "a lamp", "a zebra", "a kiwi"]
    vectors = random.normal(size=(6, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def fit(weight):
        weights = np.array([1, 1, weight, 1, 1, 1], np.float32)
        teacher = SentenceTeacher(TextVectors(texts, vectors), Letters(), weights)
        return float(teacher.estimate(["a teapot"])[0][0] @ vectors[2])

    assert fit(1.0) > fit(0.3) > fit(0.01)


def test_lessons_survive_a_file(gaze_data, tmp_path):
    made = lessons.precomputed_lessons(gaze_data, SMALL, None)
    made.save(tmp_path / "l.npz")
    back = lessons.Lessons.load(tmp_path / "l.npz")
    assert (back.true.texts.texts, back.others.texts) == (made.true.texts.texts, made.others.texts)
    assert (back.true.wordings, back.true.tables) == (made.true.wordings, made.true.tables)
    assert np.array_equal(back.true.weights, made.true.weights)
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
    gaze_data, tiny_sentence_model, tiny_text_encoder, tmp_path, monkeypatch, run
):
    (tmp_path / "texts.txt").write_text("a purple kite over the sea\n")
    # As many phrases as are made of the real names would take a minute.
    monkeypatch.setattr(lessons, "_phrases", lambda *_: ["two red kites"])
    code, told, _ = run(
        "distill", "--data", gaze_data, "--output", tmp_path / "run", "--sentence-model", tiny_sentence_model,
        "--texts", tmp_path / "texts.txt", "--tokenizer", tiny_text_encoder / "tokenizer.json", "--epochs", 1,
        "--width", 8, "--layers", 1, "--held-out", 0, "--batch-size", 4096,
    )  # fmt: skip
    assert code == 0
    assert "text_encoder: held-out vectors, none" in told
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


def test_teacher_that_cannot_be_had(gaze_data, monkeypatch, run, tmp_path):
    # The environment variable of the same name is read when the package is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, _, errors = run(
        "distill", "--data", gaze_data, "--output", tmp_path / "run", "--clip-model", "nobody/no-model"
    )
    assert code == 1
    (line,) = filter(None, errors.splitlines())
    assert line.startswith("error: cannot load the text encoder nobody/no-model")
    assert line.endswith("Offline, pass the path of a local folder with --clip-model")


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
    student = encode_texts(model, tokenizer, made.true.texts.texts)
    assert agreement(student, made.true.texts, made.held_out) == pytest.approx(scores)


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
    names = made.true.of_table("names")
    # 133 by hash, and five that name the same as one of these ("a street lights").
    assert (int(names.sum()), int(made.held_out[names].sum())) == (1585, 138)
    assert len(made.true) > 5000
    assert len(made.others) > 45_000
