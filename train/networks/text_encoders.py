"""CLIP text encoders and tokenizers, from a hub id or a local folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from salgan_edge import contract
from salgan_edge.errors import BundleFormatError, ExportError
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection

__all__ = ["load_text_encoder", "write_tokenizer"]

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
