"""Texts and photos in, saliency out: the Triton model that joins the two graphs.

`salgan-edge export --triton` copies this file into a model repository, where Triton's Python backend
runs it. It tokenises the texts, keeps the vectors of those it has seen, and calls the text encoder and
the generator through Triton, so that their dynamic batching, instances and statistics apply.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

__all__ = ["TritonPythonModel"]

_CONTEXT_LENGTH = 77
_BOS, _EOS = "<|startoftext|>", "<|endoftext|>"
_CACHED_PROMPTS = 1024


class TritonPythonModel:
    """What Triton's Python backend makes one of for each instance."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the tokenizer, and the names of the graphs from config.pbtxt."""
        parameters = {
            key: value["string_value"]
            for key, value in json.loads(args["model_config"])["parameters"].items()
        }
        self._text_encoder = parameters["text_encoder"]
        self._generator = parameters["generator"]
        self._text_batch = int(parameters["text_batch"])
        self._dimension = int(parameters["embedding_dimension"])
        self._tokenizer = Tokenizer.from_file(str(Path(__file__).with_name("tokenizer.json")))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._bos, self._eos = (self._tokenizer.token_to_id(token) for token in (_BOS, _EOS))
        self._vectors: OrderedDict[str, npt.NDArray[np.float32]] = OrderedDict()

    async def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests side by side, so that Triton can batch what they ask of the graphs."""
        return await asyncio.gather(*(self._answer(request) for request in requests))

    async def _answer(self, request: Any) -> Any:
        image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()  # (B, H, W, 3)
        texts = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()  # (B, N) of bytes
        try:
            prompts = [_prompt(text) for text in texts.reshape(-1)]
            vectors = await self._embed(prompts)
            saliency = await _call(
                self._generator,
                "saliency",
                {"image": image, "text_embedding": vectors.reshape(*texts.shape, self._dimension)},
            )
        except (ValueError, pb_utils.TritonModelException) as error:
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("saliency", saliency)])

    async def _embed(self, prompts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (len(prompts), dimension); the zero vector, free viewing, for an empty prompt."""
        known = {prompt: self._vectors[prompt] for prompt in prompts if prompt in self._vectors}
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt and prompt not in known]
        parts = [missing[i : i + self._text_batch] for i in range(0, len(missing), self._text_batch)]
        answers = await asyncio.gather(
            *(_call(self._text_encoder, "text_embedding", {"input_ids": self._ids(part)}) for part in parts)
        )
        for part, rows in zip(parts, answers, strict=True):
            # A copy: a row would keep the whole answer alive in the cache.
            known.update((prompt, row.copy()) for prompt, row in zip(part, rows, strict=True))
        for prompt, vector in known.items():
            self._vectors[prompt] = vector
            self._vectors.move_to_end(prompt)
        while len(self._vectors) > _CACHED_PROMPTS:
            self._vectors.popitem(last=False)
        zero = np.zeros(self._dimension, np.float32)
        return np.stack([known.get(prompt, zero) for prompt in prompts]) if prompts else zero[:0]

    def _ids(self, prompts: Iterable[str]) -> npt.NDArray[np.int64]:
        """Token ids (N, 77): start, text, end, padding; what does not fit is cut off."""
        rows = []
        for prompt in prompts:
            ids = self._tokenizer.encode(prompt, add_special_tokens=False).ids[: _CONTEXT_LENGTH - 2]
            rows.append([self._bos, *ids, *[self._eos] * (_CONTEXT_LENGTH - 1 - len(ids))])
        return np.asarray(rows, np.int64)


def _prompt(text: bytes) -> str:
    """A text as UTF-8; white space alone is free viewing, an empty prompt."""
    try:
        prompt = text.decode()
    except UnicodeDecodeError:
        raise ValueError(f"the text {text!r} is no UTF-8: encode it so") from None
    for token in (_BOS, _EOS):
        if token in prompt.lower():
            raise ValueError(f"the text contains {token}, which is reserved by CLIP: remove it")
    return prompt if prompt.strip() else ""


async def _call(model: str, output: str, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    request = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=[output],
        inputs=[pb_utils.Tensor(name, value) for name, value in inputs.items()],
        # Only a tensor in the CPU's memory can become an array.
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
    )
    response = await request.async_exec()
    if response.has_error():
        raise pb_utils.TritonModelException(response.error().message())
    values: npt.NDArray[np.float32] = pb_utils.get_output_tensor_by_name(response, output).as_numpy()
    return values
