"""Token ids against `transformers.CLIPTokenizer` and against ids that OpenAI's tokenizer gives."""

from __future__ import annotations

import json

import numpy as np
import pytest

from salgan_edge.bundle import default_bundle
from salgan_edge.errors import BundleFormatError, PromptError
from salgan_edge.tokenizer import ClipTokenizer

FILE = default_bundle() / "tokenizer.json"
TEXTS = [
    "a photo of a cat",
    "A Man in a RAINCOAT",
    "the white lamps, and two dogs' tails!",
    "it's 42.5% done -- isn't it?",
    "  spaces \n and\ttabs  ",
    "naïve café Ångström",
    "日本語のテキスト",
    "привет мир",
    "emoji 😀👩‍🚀 here",
    "antidisestablishmentarianism",
    "a" * 300,
    "word " * 200,
]


@pytest.fixture(scope="module")
def tokenizer():
    return ClipTokenizer(FILE)


@pytest.fixture(scope="module")
def oracle():
    transformers = pytest.importorskip("transformers")
    model = json.loads(FILE.read_text())["model"]
    return transformers.CLIPTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])


def test_ids_published_by_openai(tokenizer):
    # From the notebook that comes with OpenAI's CLIP and from many ports of it.
    assert tokenizer.encode("a photo of a cat").ids[:7] == (49406, 320, 1125, 539, 320, 2368, 49407)
    assert tokenizer.encode("hello world!").ids[:5] == (49406, 3306, 1002, 256, 49407)


@pytest.mark.parametrize("text", TEXTS)
def test_same_ids_as_transformers(tokenizer, oracle, text):
    expected = oracle(text, padding="max_length", truncation=True, max_length=77)["input_ids"]
    assert list(tokenizer.encode(text).ids) == expected


def test_batch_shape_and_type(tokenizer):
    batch = tokenizer.batch(["a dog", "two cats on a sofa"])
    assert batch.shape == (2, 77)
    assert batch.dtype == np.int64
    assert tokenizer.batch([]).shape == (0, 77)


def test_dropped_text_is_the_end_of_the_prompt(tokenizer):
    words = [f"w{n}" for n in range(500)]
    encoded = tokenizer.encode(" ".join(words))
    assert len(encoded.ids) == 77
    assert encoded.ids[-1] == 49407
    assert " ".join(words).endswith(encoded.dropped)
    # Kept and dropped text make up the whole: "w", a token for each digit.
    kept = " ".join(words)[: -len(encoded.dropped)]
    assert len(tokenizer.encode(kept).dropped) == 0
    assert tokenizer.encode("a dog").dropped == ""


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_empty_text_is_refused(tokenizer, text):
    with pytest.raises(PromptError, match="text is empty"):
        tokenizer.encode(text)


def test_special_tokens_are_refused(tokenizer):
    with pytest.raises(PromptError, match="reserved by CLIP"):
        tokenizer.encode("a dog <|endoftext|> a cat")


@pytest.mark.parametrize("content", ["", "{}", "not json"])
def test_broken_file(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(BundleFormatError, match=r"tokenizer\.json is not a readable"):
        ClipTokenizer(tmp_path / "tokenizer.json")


def test_tokenizer_without_special_tokens(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BundleFormatError, match="a CLIP tokenizer was expected"):
        ClipTokenizer(tmp_path / "tokenizer.json")
