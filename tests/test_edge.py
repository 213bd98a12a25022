"""The `edge` network: what depends on what, in every kind of fusion; reading classes from texts."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import eyed_generator, photo, random_generator, texts  # noqa: E402
from salgan_edge.train.data.phrases import made_captions, named_classes, words_for  # noqa: E402
from salgan_edge.train.data.text_vectors import TextVectors  # noqa: E402
from salgan_edge.train.networks.edge import DOMAINS, FUSIONS, EdgeGenerator  # noqa: E402
from salgan_edge.train.pretrain import average_precision, fit_reader  # noqa: E402

from salgan_edge.errors import CheckpointError  # noqa: E402
from salgan_edge.gaze.detector import COCO_CLASSES  # noqa: E402

FORMS = [*({"fusion": fusion} for fusion in FUSIONS), {"fine_keys": False}, {}, {"eyes": "none"}]
"""Of the network: the kinds of fusion, then with a second backbone, with fine keys, and with both."""


def generator(form):
    return random_generator(**form) if "fusion" in form else eyed_generator(**form)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_prompts_do_not_disturb_each_other(form):
    model = generator(form)
    image, asked = photo(2), texts(2)
    with torch.inference_mode():
        together = model(image, asked)
        assert together.shape == (2, 3, 8, 8)
        for b in range(2):
            for n in range(3):
                alone = model(image[b : b + 1], asked[b, n][None, None])
                assert torch.allclose(alone[0, 0], together[b, n], atol=1e-5)
        # No text, a zero vector, asks for nothing, whatever the mean text is.
        assert not model.text_direction(torch.zeros(1, 1, 512)).any()
        model.set_text_mean(torch.randn(512, generator=torch.Generator().manual_seed(2)))
        assert torch.allclose(model(image, asked)[0, 1], together[0, 1], atol=1e-6)
    assert together.amax(dim=(2, 3)).allclose(torch.ones(2, 3))
    assert (together[0, 0] - together[0, 2]).abs().max() > 1e-3


def test_class_named_by_the_text_is_looked_at():
    """With all else silenced, the map is where the detector sees the class that the reader reads."""
    model = random_generator()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith(("backbone", "reader")):
                parameter.zero_()
        model.reader.hidden.weight.zero_()
        model.reader.logits.bias.fill_(-20.0)
        model.reader.logits.bias[5] = 20.0
        model.relevance.weight[0, :3] = 1.0
        model.coarse.weight[0, 0] = 1.0
        model.head.weight[0, 0, 1, 1] = 1.0
        pixels = model.preprocess(photo())
        _, classes = model.backbone(pixels)
        logits = model.logits(pixels, torch.ones(1, 1, 512))[0, 0]
        shown = [torch.sigmoid(level[0, 5]) for level in classes]
    coarse = (
        torch.nn.functional.max_pool2d(shown[0][None, None], 2)[0, 0]
        + shown[1]
        + shown[2].repeat_interleave(2, 0).repeat_interleave(2, 1)
    )
    silu = torch.nn.functional.silu
    rough = torch.nn.functional.interpolate(silu(coarse)[None, None], (8, 8), mode="bilinear")[0, 0]
    assert torch.allclose(logits, silu(silu(rough)), atol=1e-5)


def test_each_data_set_has_its_own_prior():
    model = random_generator()
    pixels, text = (
        model.preprocess(photo(1)).expand(len(DOMAINS), -1, -1, -1),
        torch.zeros(len(DOMAINS), 1, 512),
    )
    with torch.inference_mode():
        each = model.logits(pixels, text, torch.arange(len(DOMAINS))[:, None])
        product = model.logits(pixels, text)
    assert torch.allclose(each[0], product[0], atol=1e-5)
    assert (each[1] - each[2]).abs().max() > 0.1


def test_each_data_set_is_viewed_in_its_own_way():
    model = random_generator()
    pixels = model.preprocess(torch.randint(0, 256, (1, 40, 50, 3), dtype=torch.uint8))
    text = torch.nn.functional.normalize(torch.randn(1, 2, 512), dim=-1)

    def logits(domain):
        with torch.no_grad():
            return model.logits(pixels, text, None if domain is None else torch.full((1, 2), domain))

    with torch.no_grad():
        # Nothing else may tell the data sets apart here.
        model.prior.copy_(model.prior[:1].expand_as(model.prior))
    before = [logits(domain) for domain in (None, 0, 1, 2)]
    for other in before[1:]:
        torch.testing.assert_close(other, before[0])
    with torch.no_grad():
        model.viewing[0].normal_()
    after = [logits(domain) for domain in (None, 0, 1, 2)]
    for domain in (0, 1, 3):
        torch.testing.assert_close(after[domain], before[domain])
    assert (after[2] - before[2]).abs().max() > 1e-2


def test_parameters_are_listed_once():
    model = EdgeGenerator(64)
    pretrained = {id(parameter) for parameter in model.pretrained()}
    assert len(pretrained) == len(model.pretrained())
    assert id(model.reader.hidden.weight) in pretrained
    assert id(model.head.weight) not in pretrained
    assert all(id(parameter) in pretrained for parameter in model.backbone.parameters())


def test_kind_of_fusion_is_kept_with_the_weights(tmp_path):
    from salgan_edge.train.checkpoint import Description, load_generator, save_generator

    model = EdgeGenerator(64, fusion="concat").eval()
    path = tmp_path / "concat.safetensors"
    save_generator(model, Description("edge", {"size": 64, "fusion": "concat"}), path)
    loaded, _ = load_generator(path)
    text = torch.randn(1, 2, 512)
    with torch.inference_mode():
        assert torch.equal(loaded(photo(), text), model(photo(), text))
    save_generator(model, Description("edge", {"size": 64, "fusion": "film"}), path)
    with pytest.raises(CheckpointError, match="does not fit preset edge"):
        load_generator(path)


# Reading classes


def test_named_classes_by_hand():
    def named(text):
        return [name for name, found in zip(COCO_CLASSES, named_classes([text])[0], strict=True) if found]

    assert named("Two dogs and a red bus") == ["bus", "dog"]
    assert named("A man in a raincoat rides his bike") == ["person", "bicycle"]
    assert named("three knives on a dining table") == ["knife", "dining table"]
    assert named("White lamps") == []
    # Whole words only.
    assert named("the scatter of a busy category") == []
    assert named_classes([]).shape == (0, 80)


def test_every_class_is_named_by_its_words():
    for number, name in enumerate(COCO_CLASSES):
        found = named_classes([f"look at the {word} there" for word in words_for(name)])
        assert found[:, number].all(), name


def test_made_captions_name_every_class():
    captions = made_captions(3000, np.random.default_rng(0))
    assert len(captions) == 3000
    assert named_classes(captions).sum(0).min() > 20


def test_average_precision_by_hand():
    scores = np.array([[0.9, 0.2], [0.8, 0.1]], np.float32)
    labels = np.array([[True, False], [False, True]])
    # In order .9 (true), .8, .2, .1 (true): precision 1 and 2/4.
    assert average_precision(scores, labels) == pytest.approx(0.75)


def test_reader_learns_to_read(monkeypatch):
    """Vectors made of a direction for each class: a text that names two is read as both."""
    from salgan_edge.train import pretrain

    monkeypatch.setattr(pretrain, "_MADE", 1500)
    random = np.random.default_rng(0)
    axes = random.normal(size=(80, 512)) / 512**0.5
    mean = random.normal(size=512) / 512**0.5

    def encode(texts):
        vectors = mean + named_classes(texts) @ axes + 0.2 * random.normal(size=(len(texts), 512)) / 512**0.5
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    model = EdgeGenerator(64)
    model.set_text_mean(torch.from_numpy((mean / np.linalg.norm(mean)).astype(np.float32)))
    names = TextVectors(["a dog", "a kite"], encode(["a dog", "a kite"]))
    captions = TextVectors(["A dog chases a cat."], encode(["A dog chases a cat."]))
    fit_reader(model, captions, names, encode, seed=1)
    texts = [
        "a bus next to two giraffes",
        "A woman with an umbrella and a kite",
        "some lamps",
        "a truck and a zebra",
    ]
    with torch.inference_mode():
        read = torch.sigmoid(model.reader(model.text_direction(torch.from_numpy(encode(texts))))).numpy()
    assert average_precision(read, named_classes(texts)) > 0.95
    assert read[2].max() < 0.5


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_export_form_computes_the_same(form):
    model = generator(form)
    with torch.no_grad():
        model.sharpness.normal_(std=0.3)
        if "inner" in model.fusion:
            model.strides.weight.normal_(std=0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    image, asked = photo(2), texts(2)
    with torch.inference_mode():
        expected, got = model(image, asked), model.for_export()(image, asked)
    assert torch.allclose(got, expected, atol=3e-5)
    # The model itself stays what it was.
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
