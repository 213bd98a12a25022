"""CLIP text encoders: read from a hub id or a local folder, or made compact; and their tokenizers.

The shipped ``tokenizer.json`` was built from CLIP's byte-pair merges, OpenAI's
``bpe_simple_vocab_16e6.txt.gz`` (MIT) as packed in the PyPI package ``open_clip_torch``::

    pip download --no-deps open_clip_torch
    python -m salgan_edge.train.networks.text_encoder open_clip_torch-*.whl tokenizer.json
"""

from __future__ import annotations

import gzip
import logging
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from salgan_edge import contract
from salgan_edge.errors import BundleFormatError, ExportError
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

__all__ = [
    "clip_tokenizer",
    "compact_text_encoder",
    "embed",
    "encode_texts",
    "load_text_encoder",
    "make_encoder",
    "read_merges",
    "round_rows_to_bytes",
    "save_text_encoder",
    "write_tokenizer",
]


def compact_text_encoder(
    width: int, layers: int, heads: int, *, vocabulary: int = 49408, dimension: int = 512
) -> CLIPTextModelWithProjection:
    """A text encoder of CLIP's class and vocabulary, with random weights.

    Args:
        width: channels of the embedding and the transformer.
        layers: transformer layers.
        heads: attention heads; `width` is divided among them.
        vocabulary: tokens; start and end are the last two, as in CLIP.
        dimension: length of the text vector.
    """
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection  # noqa: PLC0415 - slow to import

    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=dimension,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=contract.CONTEXT_LENGTH,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return CLIPTextModelWithProjection(config)


def embed(model: CLIPTextModelWithProjection, input_ids: torch.Tensor) -> torch.Tensor:
    """Text vectors (N, dimension), L2-normalised, of token ids (N, L)."""
    vectors: torch.Tensor = model(input_ids=input_ids).text_embeds
    return torch.nn.functional.normalize(vectors, dim=-1)


@torch.inference_mode()
def encode_texts(
    model: CLIPTextModelWithProjection, tokenizer: ClipTokenizer, texts: Sequence[str], *, batch: int = 256
) -> npt.NDArray[np.float32]:
    """Vectors (n, d) of texts, L2-normalised, `batch` of them at a time."""
    model.eval()
    rows = []
    for start in range(0, len(texts), batch):
        ids = torch.from_numpy(tokenizer.batch(texts[start : start + batch]))
        # The padding repeats the end token; nothing after the first one reaches the output.
        length = int((ids != ids[0, -1]).sum(1).max()) + 1
        rows.append(embed(model, ids[:, :length]).numpy())
    return np.concatenate(rows)


def make_encoder(folder: Path) -> Callable[[Sequence[str]], npt.NDArray[np.float32]]:
    """Texts to vectors (n, dimension) by the text encoder in a `transformers` folder."""
    from transformers import CLIPTextModelWithProjection  # noqa: PLC0415 - slow to import
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    # Its bar for reading a file of a few megabytes would stand above ours.
    transformers_logging.disable_progress_bar()
    text_model = CLIPTextModelWithProjection.from_pretrained(folder, dtype=torch.float32)
    tokenizer = ClipTokenizer(folder / "tokenizer.json")
    return lambda texts: encode_texts(text_model, tokenizer, texts)


def save_text_encoder(model: CLIPTextModelWithProjection, folder: Path) -> None:
    """Save as a `transformers` folder in float16, and round `model` to what was saved.

    Half precision halves the file, and the token table is rounded further, to 8-bit integers times a
    power of two for each row, so that a bundle stores it in a byte per weight. Both roundings are
    in the saved values: nothing is lost when they are read or exported.
    """
    with torch.no_grad():
        round_rows_to_bytes(model.text_model.embeddings.token_embedding.weight)
    model.half()
    model.save_pretrained(folder)
    model.float()


@torch.no_grad()
def round_rows_to_bytes(table: torch.Tensor) -> None:
    """Round each row of `table` (rows, width) in place to whole multiples, -127 to 127, of a power of two.

    The power is the least that reaches the row's largest value; it is at least 2**-24, so that every
    result is a float16. Rounding again changes nothing.

    >>> table = torch.tensor([[1.0, -0.3, 0.0]])
    >>> round_rows_to_bytes(table)
    >>> table
    tensor([[ 1.0000, -0.2969,  0.0000]])
    """
    largest = table.abs().amax(-1, keepdim=True)
    # frexp: largest = m * 2**e, m in 0.5..1; m * 128 is up to 128, one too many above 127.5 / 128.
    mantissa, exponent = torch.frexp(largest)
    exponent = (exponent - 7 + (mantissa * 128 >= 127.5)).clamp(min=-24)
    step = torch.ldexp(torch.ones_like(largest), exponent)
    table.copy_(torch.round(table / step) * step)


_CLIP_TYPES = ("clip", "clip_text_model")
_OLD_END = 2
_CONFIG = "config.json"
_PROBE_SECONDS = 5.0
# Weights of the text model; a whole CLIP model also has a vision part, which is not read.
_TEXT_PARTS = ("text_model.", "text_projection.", "embeddings.", "encoder.", "final_layer_norm.")


def load_text_encoder(
    source: str, dimension: int | None, *, option: str = "--text-encoder"
) -> CLIPTextModelWithProjection:
    """A CLIP text model with projection, float32, in evaluation mode.

    Of a whole CLIP model only the text part is read. Every weight must be there and fit: `transformers`
    fills what is missing with random numbers.

    Args:
        source: hub id (``openai/clip-vit-base-patch32``) or a folder saved by `save_pretrained`.
        dimension: length of the vectors that the generator reads; None where any will do.
        option: the command's option that named it, for messages.

    Raises:
        ExportError: not found, no CLIP text model, a weight is missing or does not fit, or vectors
            of another length.
    """
    from transformers import AutoConfig, CLIPTextModelWithProjection  # noqa: PLC0415 - slow to import
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    unreachable = _unreachable(source, option)
    config: Any = _pretrained(AutoConfig, source, option, unreachable)
    if config.model_type not in _CLIP_TYPES:
        raise ExportError(
            f"{source} is a {config.model_type} model: a CLIP text model (model_type clip or clip_text_model) was expected"
        )
    text_config = getattr(config, "text_config", config)
    # The whole model projects to its own dimension, whatever the configuration of its text part says.
    projection = getattr(config, "projection_dim", None) or text_config.projection_dim
    text_config.projection_dim = projection
    if dimension is not None and projection != dimension:
        raise ExportError(
            f"{source} gives text vectors of length {projection}, the generator reads {dimension}: use a generator trained on that text space"
        )
    if text_config.max_position_embeddings != contract.CONTEXT_LENGTH:
        raise ExportError(
            f"{source} reads {text_config.max_position_embeddings} tokens, the contract has {contract.CONTEXT_LENGTH}"
        )
    model, loaded = _pretrained(
        CLIPTextModelWithProjection, source, option, unreachable,
        config=text_config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True,
    )  # fmt: skip
    _check_weights(source, loaded)
    model.eval()
    text_model: CLIPTextModelWithProjection = model
    return text_model


def _check_weights(source: str, loaded: dict[str, Any]) -> None:
    """Raise where `transformers` left a weight out, or filled one with random numbers."""
    for name, found, expected in loaded["mismatched_keys"]:
        raise ExportError(
            f"{source} is damaged: its weight {name} is {tuple(found)}, its {_CONFIG} says {tuple(expected)}"
        )
    missing = sorted(loaded["missing_keys"])
    if missing == ["text_projection.weight"]:
        raise ExportError(
            f"{source} has no text projection (text_projection.weight): save CLIPTextModelWithProjection or the whole "
            "CLIPModel; CLIPTextModel alone does not reach the space that images share"
        )
    if missing:
        raise ExportError(
            f"{source} lacks {len(missing)} weights of a CLIP text model, such as {missing[0]}: a folder saved by "
            "save_pretrained was expected"
        )
    # Older files also store the numbers 0 to 76.
    unread = sorted(
        name
        for name in loaded["unexpected_keys"]
        if name.startswith(_TEXT_PARTS) and not name.endswith("position_ids")
    )
    if unread:
        raise ExportError(
            f"{source} holds {len(unread)} weights that its {_CONFIG} has no place for, such as {unread[0]}: the two do "
            "not belong together"
        )


def write_tokenizer(
    source: str, output: Path, text_model: CLIPTextModelWithProjection, *, option: str = "--text-encoder"
) -> None:
    """Write the tokenizer of a text encoder as one ``tokenizer.json``.

    Raises:
        ExportError: no tokenizer there, or one of another vocabulary.
        OSError: `output` cannot be written.
    """
    local = Path(source) / contract.TOKENIZER_FILE
    if local.is_file():
        output.write_bytes(local.read_bytes())
    else:
        from transformers import CLIPTokenizer  # noqa: PLC0415

        tokenizer: Any = _pretrained(CLIPTokenizer, source, option, _unreachable(source, option))
        output.write_text(tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
    # A folder without vocabulary files gives a tokenizer of three tokens without an error.
    config: Any = text_model.config
    # 2 stands in old configurations, whose models read the output at the largest id.
    end = config.vocab_size - 1 if config.eos_token_id == _OLD_END else config.eos_token_id
    try:
        tokens = ClipTokenizer(output)
    except BundleFormatError as error:
        raise ExportError(f"the tokenizer of {source} cannot be used: {error}") from error
    if tokens.end != end:
        raise ExportError(
            f"{source} has no tokenizer of its model: its end token is {tokens.end}, the model's is {end}; "
            "copy tokenizer.json, or vocab.json and merges.txt, beside the model"
        )


def _unreachable(source: str, option: str) -> str | None:
    """Why only files of this machine can be had; None where the hub answers.

    The hub is asked once: `transformers` tries six times, for half a minute where there is no network.

    Raises:
        ExportError: neither a folder nor a hub id.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # noqa: PLC0415

    folder = Path(source)
    if folder.is_dir():
        if not (folder / _CONFIG).is_file():
            raise ExportError(
                f"{source} has no {_CONFIG}: a folder saved by save_pretrained was expected with {option}"
            )
        return "it is a folder"
    if folder.exists():
        raise ExportError(f"{source} is a file: give the folder of a text encoder with {option}")
    try:
        validate_repo_id(source)
        HfApi().model_info(source, timeout=_PROBE_SECONDS)
    except HFValidationError as error:
        raise ExportError(
            f"cannot load the text encoder {source}: there is no such folder, and it is no hub id either. "
            f"Offline, pass the path of a local folder with {option}"
        ) from error
    except HfHubHTTPError:
        return None  # it answers; what it says about this model is told when the model is loaded
    except Exception as error:  # the network raises families of its own  # noqa: BLE001
        return _first_line(error)
    return None


def _pretrained(kind: Any, source: str, option: str, unreachable: str | None, **options: Any) -> Any:
    """`kind.from_pretrained`; without the network where the hub is unreachable or a folder is read."""
    try:
        return kind.from_pretrained(source, local_files_only=unreachable is not None, **options)
    except Exception as error:  # the hub, the network and the file readers raise families of their own
        if Path(source).is_dir() or unreachable is None:
            where = f"it could not be read ({_first_line(error)})"
        else:
            where = (
                "there is no such folder, it was not downloaded before, and the hub cannot be reached "
                f"({unreachable})"
            )
        raise ExportError(
            f"cannot load the text encoder {source}: {where}. Offline, pass the path of a local folder with {option}"
        ) from error


def _first_line(error: Exception) -> str:
    return next(
        (line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__
    )


VOCABULARY_SIZE = 49408
"""Bytes (256), bytes at a word's end (256), merges (48,894), start and end."""
_MERGES = VOCABULARY_SIZE - 2 * 256 - 2


def read_merges(path: Path) -> list[tuple[str, str]]:
    """The 48,894 merges of CLIP, best first, from a ``.txt.gz`` or a wheel that holds one."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith("bpe_simple_vocab_16e6.txt.gz"))
            packed = wheel.read(name)
    else:
        packed = path.read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : _MERGES + 1]
    pairs = [tuple(line.split()) for line in lines]
    return [(first, second) for first, second in pairs]


def _byte_alphabet() -> list[str]:
    """The 256 printable stand-ins of the bytes, in the order of CLIP's vocabulary.

    GPT-2's byte-level alphabet: printable Latin-1 characters stand for themselves, the others
    move past U+0100.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]


def clip_tokenizer(merges: list[tuple[str, str]]) -> CLIPTokenizer:
    """`transformers.CLIPTokenizer` with CLIP's own vocabulary built from its merges."""
    from transformers import CLIPTokenizer  # noqa: PLC0415 - slow to import

    alphabet = _byte_alphabet()
    tokens = alphabet + [letter + "</w>" for letter in alphabet]
    tokens += ["".join(pair) for pair in merges]
    tokens += [contract.BOS_TOKEN, contract.EOS_TOKEN]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    # Pairs are what its byte-pair model takes; its annotation says strings.
    return CLIPTokenizer(vocab=vocabulary, merges=merges)  # type: ignore[arg-type]


def main(source: str, output: str) -> None:
    """Write ``output`` from the merges in ``source``."""
    tokenizer = clip_tokenizer(read_merges(Path(source)))
    tokenizer.backend_tokenizer.save(output, pretty=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
