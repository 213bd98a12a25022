"""CLIP text encoders as people have them: whole models, text parts, old files; and what is refused."""

from __future__ import annotations

import json
import shutil
import socket

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
transformers = pytest.importorskip("transformers")

from salgan_edge.export import convert as conversion  # noqa: E402
from salgan_edge.export.convert import (  # noqa: E402
    TEXT_ENCODER_DIMENSIONS,
    TextEncoderGraph,
    check_size,
    convert,
    text_encoder_example,
)
from salgan_edge.export.write import export_bundle  # noqa: E402
from salgan_edge.train.networks.text_encoder import load_text_encoder, write_tokenizer  # noqa: E402

from salgan_edge import contract  # noqa: E402
from salgan_edge.bundle import default_bundle  # noqa: E402
from salgan_edge.devices import Execution  # noqa: E402
from salgan_edge.errors import ExportError  # noqa: E402
from salgan_edge.session import GraphSession  # noqa: E402
from salgan_edge.tokenizer import ClipTokenizer  # noqa: E402

START, END, PROJECTION = 998, 999, 24
TEXT = {
    "vocab_size": 1000, "hidden_size": 16, "intermediate_size": 32, "projection_dim": PROJECTION,
    "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 77,
    "bos_token_id": START, "eos_token_id": END, "pad_token_id": END,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 32, "patch_size": 16,
}  # fmt: skip


def loud(model):
    """Random weights so large that every part shows in the output."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def whole_model(text=TEXT, projection=PROJECTION):
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=projection)
    return loud(transformers.CLIPModel(config))


def text_model(**changes):
    return loud(transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**{**TEXT, **changes})))


def plain_model():
    return loud(transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT)))


def token_ids(rows=3, start=START, end=END):
    """Rows of 1, 5 and 75 tokens between start and end."""
    random = np.random.default_rng(0)
    ids = np.full((rows, 77), end)
    ids[:, 0] = start
    for row, length in zip(ids, (1, 5, 75), strict=False):
        row[1 : length + 1] = random.integers(0, 900, length)
    return torch.from_numpy(ids)


def features(model, ids):
    """What `transformers` gives for the whole model, normalised."""
    with torch.inference_mode():
        found = model.get_text_features(input_ids=ids)
    return torch.nn.functional.normalize(getattr(found, "pooler_output", found), dim=-1).numpy()


def vectors(model, ids):
    with torch.inference_mode():
        return TextEncoderGraph(model)(ids).numpy()


# What people have


def save_whole(folder):
    model = whole_model()
    model.save_pretrained(folder)
    return features(model, token_ids())


def save_text_part(folder):
    model = text_model()
    model.save_pretrained(folder)
    with torch.inference_mode():
        found = model(input_ids=token_ids()).text_embeds
    return (found / found.norm(dim=-1, keepdim=True)).numpy()


def save_pickle(folder):
    """The older file, with the table of positions that older versions stored."""
    expected = save_whole(folder)
    (folder / "model.safetensors").unlink()
    weights = {**whole_model().state_dict(), "text_model.embeddings.position_ids": torch.arange(77)[None]}
    torch.save(weights, folder / "pytorch_model.bin")
    return expected


def save_half(folder):
    model = whole_model().half()
    model.save_pretrained(folder)
    return features(model.float(), token_ids())


def save_bfloat(folder):
    model = whole_model().bfloat16()
    model.save_pretrained(folder)
    return features(model.float(), token_ids())


def save_other_projection(folder):
    """The text part's configuration has a dimension of its own, which the whole model does not use."""
    model = whole_model({**TEXT, "projection_dim": 512})
    model.save_pretrained(folder)
    return features(model, token_ids())


def save_gelu(folder):
    model = whole_model({**TEXT, "hidden_act": "gelu"})
    model.save_pretrained(folder)
    return features(model, token_ids())


def save_old_end(folder):
    model = whole_model({**TEXT, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1})
    model.save_pretrained(folder)
    return features(model, token_ids())


@pytest.mark.parametrize(
    "save",
    [
        save_whole, save_text_part, save_pickle, save_half, save_bfloat, save_other_projection, save_gelu,
        save_old_end,
    ],
)  # fmt: skip
def test_folders(save, tmp_path):
    (tmp_path / "clip").mkdir()
    expected = save(tmp_path / "clip")
    model = load_text_encoder(str(tmp_path / "clip"), PROJECTION)
    assert model.dtype == torch.float32
    assert not any("vision" in name for name, _ in model.named_parameters())
    got = vectors(model, token_ids())
    assert np.abs(got - expected).max() < 1e-6
    assert np.abs(got[0] - got[1]).max() > 0.01


# What is refused


def test_text_model_without_projection(tmp_path):
    plain_model().save_pretrained(tmp_path / "clip")
    with pytest.raises(
        ExportError, match=r"has no text projection \(text_projection.weight\): save CLIPText"
    ):
        load_text_encoder(str(tmp_path / "clip"), PROJECTION)


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 3}, r"lacks 16 weights of a CLIP text model, such as text_model\.encoder\.layers\.2"),
        ({"num_hidden_layers": 1}, "holds 16 weights that its config.json has no place for, such as text_model"),
        ({"intermediate_size": 64}, r"is damaged: its weight .*mlp\.fc.* is \(.*32.*, its config.json says \(.*64"),
        ({"projection_dim": 512}, r"text_projection.weight is \(24, 16\), its config.json says \(512, 16\)"),
        ({"max_position_embeddings": 64}, "reads 64 tokens, the contract has 77"),
        ({"model_type": "clip_vision_model"}, "is a clip_vision_model model: a CLIP text model"),
        ({"model_type": "siglip"}, "is a siglip model: a CLIP text model"),
        ({"model_type": "never heard of"}, "cannot load the text encoder .*never heard of"),
    ],
)  # fmt: skip
def test_configuration_of_another_model(changes, message, tmp_path):
    text_model().save_pretrained(tmp_path / "clip")
    change_config(tmp_path / "clip", **changes)
    with pytest.raises(ExportError, match=message) as caught:
        load_text_encoder(str(tmp_path / "clip"), None)
    assert "\n" not in str(caught.value)


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def cut_weights(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-50])


def no_pickle(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"garbage")


def no_configuration(folder):
    (folder / "config.json").unlink()


def bad_configuration(folder):
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize("spoil", [no_weights, cut_weights, no_pickle, no_configuration, bad_configuration])
def test_damaged_folder(spoil, tmp_path):
    text_model().save_pretrained(tmp_path / "clip")
    spoil(tmp_path / "clip")
    with pytest.raises(ExportError, match=str(tmp_path / "clip")) as caught:
        load_text_encoder(str(tmp_path / "clip"), PROJECTION)
    assert "\n" not in str(caught.value)
    assert "--text-encoder" in str(caught.value)


def test_file_in_place_of_a_folder(tmp_path):
    text_model().save_pretrained(tmp_path)
    with pytest.raises(ExportError, match=r"safetensors is a file: give the folder of a text encoder"):
        load_text_encoder(str(tmp_path / "model.safetensors"), PROJECTION)


def test_vit_l_with_a_generator_of_vit_b(tmp_path):
    """Both lengths are named, before any weight is read."""
    text = {"hidden_size": 768, "intermediate_size": 3072, "projection_dim": 768, "num_attention_heads": 12}
    config = transformers.CLIPConfig(text_config=text, projection_dim=768)
    config.save_pretrained(tmp_path)
    with pytest.raises(ExportError, match="gives text vectors of length 768, the generator reads 512"):
        load_text_encoder(str(tmp_path), 512)


def test_larger_than_one_file():
    """ViT-bigG's text model, without its memory."""
    config = transformers.CLIPTextConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.CLIPTextModelWithProjection(config)
    with pytest.raises(ExportError, match=r"take 2\.8 GB as float32, and a graph in one file holds 2\.1 GB"):
        check_size(model)


# Without a network


@pytest.fixture
def no_network(monkeypatch):
    asked = []

    def lookup(host, *_rest, **_options):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return asked


def test_hub_that_cannot_be_reached(no_network):
    """One line at once: `transformers` alone would ask for half a minute."""
    with pytest.raises(ExportError) as caught:
        load_text_encoder("nobody/has-this-model", 512)
    assert str(caught.value) == (
        "cannot load the text encoder nobody/has-this-model: there is no such folder, it was not downloaded before, and "
        "the hub cannot be reached ([Errno -2] Name or service not known). Offline, pass the path of a local folder with "
        "--text-encoder"
    )
    assert len(no_network) <= 2  # one request; its client looks the name up twice


def test_folder_needs_no_network(no_network, tmp_path):
    text_model().save_pretrained(tmp_path)
    load_text_encoder(str(tmp_path), PROJECTION)
    assert no_network == []


@pytest.mark.parametrize("name", ["/no/such/folder", "./clip", "two words", "a/b/c"])
def test_no_folder_and_no_hub_id(name, no_network):
    with pytest.raises(ExportError, match="there is no such folder, and it is no hub id either"):
        load_text_encoder(name, 512)
    assert no_network == []


# The graph against `transformers`

WORDS = {
    "short": "a dog",
    "one word": "x",
    "long": "a woman in an orange space suit in front of a flag and the model of a shuttle",
    "77 tokens": "word " * 75,
    "more than 77": "word " * 200,
    "end token's name": "the <| endoftext |> mark, endoftext",
}  # fmt: skip


def real_vocabulary(activation, end, width=32, layers=2):
    """CLIP's vocabulary and positions, few layers."""
    text = {
        "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers, "hidden_act": activation,
        "num_attention_heads": 4, "bos_token_id": 49406, "eos_token_id": end, "projection_dim": 512,
    }  # fmt: skip
    return whole_model(text, 512)


@pytest.fixture(scope="module")
def tokenizer():
    return ClipTokenizer(default_bundle() / contract.TOKENIZER_FILE)


@pytest.fixture(
    scope="module",
    params=[("quick_gelu", 2), ("gelu", 49407)],
    ids=["OpenAI's old configuration", "OpenCLIP's"],
)
def exported(request, tmp_path_factory):
    """The whole model and the graph of its text part."""
    model = real_vocabulary(*request.param)
    folder = tmp_path_factory.mktemp("clip")
    model.save_pretrained(folder)
    loaded = load_text_encoder(str(folder), 512)
    graph = convert(
        TextEncoderGraph(loaded), text_encoder_example(49408), [contract.INPUT_IDS], contract.TEXT_EMBEDDING,
        TEXT_ENCODER_DIMENSIONS,
    )  # fmt: skip
    return model, GraphSession(graph.SerializeToString(), Execution("cpu"))


def run(session, ids):
    return session.run(contract.TEXT_EMBEDDING, {contract.INPUT_IDS: np.asarray(ids)})


@pytest.mark.parametrize("text", WORDS.values(), ids=WORDS)
def test_graph_computes_what_transformers_does(exported, tokenizer, text):
    model, session = exported
    ids = tokenizer.batch([text])
    assert np.abs(run(session, ids) - features(model, torch.from_numpy(ids))).max() < 1e-5


@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_any_number_of_prompts(exported, tokenizer, count):
    model, session = exported
    ids = tokenizer.batch((list(WORDS.values()) * 3)[:count])
    got = run(session, ids)
    assert got.shape == (count, 512)
    assert np.abs(got - features(model, torch.from_numpy(ids))).max() < 1e-5
    assert np.allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)
    # A prompt's vector does not depend on its neighbours.
    assert np.abs(got[:1] - run(session, ids[:1])).max() < 1e-5


def test_output_is_read_at_the_first_end(exported, tokenizer):
    """What stands behind the end token is not seen; what stands before it is."""
    model, session = exported
    ids = tokenizer.batch(["a dog on a couch"])
    end = int((ids[0] == tokenizer.end).argmax())
    behind, before = ids.copy(), ids.copy()
    behind[0, end + 1 :] = np.arange(100, 100 + 76 - end)
    behind[0, end + 3] = tokenizer.end
    before[0, 1] = 100
    vector = run(session, ids)
    assert np.abs(run(session, behind) - vector).max() < 1e-6
    assert np.abs(run(session, before) - vector).max() > 1e-3
    for changed in (behind, before):
        assert np.abs(run(session, changed) - features(model, torch.from_numpy(changed))).max() < 1e-5


# Tokenizers


def test_tokenizer_that_is_none(tmp_path):
    model = text_model()
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ExportError, match=r"the tokenizer of .* cannot be used"):
        write_tokenizer(str(tmp_path), tmp_path / "out.json", model)


def test_tokenizer_of_another_vocabulary(tmp_path):
    model = text_model()
    model.save_pretrained(tmp_path)
    shutil.copy(default_bundle() / "tokenizer.json", tmp_path)
    with pytest.raises(ExportError, match="its end token is 49407, the model's is 999"):
        write_tokenizer(str(tmp_path), tmp_path / "out.json", model)


# Full size


@pytest.mark.slow
def test_vit_b_32_at_full_size(tmp_path, tiny_checkpoint, tokenizer):
    """63 million weights, from a folder to a bundle, against `transformers` itself."""
    # 2 is the end token of the published configuration; the vectors are read at the largest id.
    text = {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION)
    model = transformers.CLIPModel(config).eval()
    weights = sum(p.numel() for p in model.text_model.parameters()) + model.text_projection.weight.numel()
    assert weights == 63_428_096
    model.save_pretrained(tmp_path / "clip")
    shutil.copy(default_bundle() / "tokenizer.json", tmp_path / "clip")
    bundle = export_bundle(tmp_path / "bundle", tiny_checkpoint, str(tmp_path / "clip"))
    path = tmp_path / "bundle" / contract.TEXT_ENCODER_FILE
    session = GraphSession(path, Execution("cpu"))
    assert session.inputs[contract.INPUT_IDS] == ("tensor(int64)", ("prompts", 77))
    assert bundle.manifest.embedding_dimension == 512
    written = ClipTokenizer(tmp_path / "bundle" / contract.TOKENIZER_FILE)
    for texts in ([WORDS["short"]], [WORDS["77 tokens"]], list(WORDS.values())):
        ids = written.batch(texts)
        assert np.array_equal(ids, tokenizer.batch(texts))
        assert np.abs(run(session, ids) - features(model, torch.from_numpy(ids))).max() < 1e-5
    assert path.stat().st_size < conversion._LARGEST_FILE
