"""CLIP text encoders and tokenizers, from a hub id or a local folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from salgan_edge import contract
from salgan_edge.errors import ExportError
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection

__all__ = ["load_text_encoder", "write_tokenizer"]

_CLIP_TYPES = ("clip", "clip_text_model")
_OLD_END = 2


def load_text_encoder(
    source: str, dimension: int | None, *, option: str = "--text-encoder"
) -> CLIPTextModelWithProjection:
    """A CLIP text model with projection, float32, in evaluation mode.

    Args:
        source: hub id (``openai/clip-vit-base-patch32``) or a folder saved by `save_pretrained`.
        dimension: length of the vectors that the generator reads; None where any will do.
        option: the command's option that named it, for messages.

    Raises:
        ExportError: not found, no CLIP text model, or vectors of another length.
    """
    from transformers import AutoConfig, CLIPTextModelWithProjection  # noqa: PLC0415 - slow to import
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    config: Any = _from_hub(AutoConfig, source, option)
    if config.model_type not in _CLIP_TYPES:
        raise ExportError(
            f"{source} is a {config.model_type} model: a CLIP text model (model_type clip or clip_text_model) was expected"
        )
    text_config = getattr(config, "text_config", config)
    projection = getattr(config, "projection_dim", None) or text_config.projection_dim
    if dimension is not None and projection != dimension:
        raise ExportError(
            f"{source} gives text vectors of length {projection}, the generator reads {dimension}: use a generator trained on that text space"
        )
    if text_config.max_position_embeddings != contract.CONTEXT_LENGTH:
        raise ExportError(
            f"{source} reads {text_config.max_position_embeddings} tokens, the contract has {contract.CONTEXT_LENGTH}"
        )
    model: CLIPTextModelWithProjection = _from_hub(
        CLIPTextModelWithProjection, source, option, dtype=torch.float32
    )
    model.eval()
    return model


def write_tokenizer(
    source: str, output: Path, text_model: CLIPTextModelWithProjection, *, option: str = "--text-encoder"
) -> None:
    """Write the tokenizer of a text encoder as one ``tokenizer.json``.

    Raises:
        ExportError: no tokenizer there, or one of another vocabulary.
    """
    local = Path(source) / contract.TOKENIZER_FILE
    if local.is_file():
        output.write_bytes(local.read_bytes())
    else:
        from transformers import CLIPTokenizer  # noqa: PLC0415

        tokenizer: Any = _from_hub(CLIPTokenizer, source, option)
        tokenizer.backend_tokenizer.save(str(output), pretty=False)
    # A folder without vocabulary files gives a tokenizer of three tokens without an error.
    config = text_model.config
    # 2 stands in old configurations, whose models read the output at the largest id.
    end = config.vocab_size - 1 if config.eos_token_id == _OLD_END else config.eos_token_id
    found = ClipTokenizer(output).end
    if found != end:
        raise ExportError(
            f"{source} has no tokenizer of its model: its end token is {found}, the model's is {end}; "
            "copy tokenizer.json, or vocab.json and merges.txt, beside the model"
        )


def _from_hub(kind: Any, source: str, option: str, **options: Any) -> Any:
    try:
        return kind.from_pretrained(source, **options)
    except Exception as error:  # the hub, the network and the file readers raise families of their own
        where = "no such folder, and it" if not Path(source).exists() else "it"
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ExportError(
            f"cannot load the text encoder {source}: {where} could not be read ({reason.strip()}). "
            f"Offline, pass the path of a local folder with {option}"
        ) from error
