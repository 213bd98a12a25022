"""Names, shapes, dtypes and constants of the two graphs of a bundle.

Training, export and the runtime all read this file and state none of it again.

==================== ==================================================== =========================
graph                input                                                output
==================== ==================================================== =========================
``text_encoder.onnx`` ``input_ids`` int64 (N, 77)                          ``text_embedding`` float32
                                                                          (N, 512), L2-normalised
``generator.onnx``   ``image`` uint8 (B, H, W, 3) RGB, any H and W;       ``saliency`` float32
                     ``text_embedding`` float32 (B, N, 512)               (B, N, h, w) in 0..1
==================== ==================================================== =========================

"No text" (free viewing) is the zero vector. Resizing and normalisation are inside the generator.
"""

from __future__ import annotations

CONTRACT_VERSION = 1
"""Version of the graphs' inputs and outputs; written into both graphs and the manifest."""

FORMAT_VERSION = 1
"""Version of the bundle's layout and manifest; a reader refuses a newer one."""

OPSET = 18
"""ONNX operator set. Above 18 some resizing and padding operators leave the GPU (onnxruntime 26393)."""

GREATEST_OPSET = 21
"""The newest opset that an export can be asked for: what onnxruntime 1.20 reads."""

# Tensors
INPUT_IDS = "input_ids"
TEXT_EMBEDDING = "text_embedding"
IMAGE = "image"
SALIENCY = "saliency"

# Files of a bundle folder
MANIFEST_FILE = "bundle.json"
TEXT_ENCODER_FILE = "text_encoder.onnx"
GENERATOR_FILE = "generator.onnx"
TOKENIZER_FILE = "tokenizer.json"
# Files that a bundle may have and no prediction needs
GOLDEN_FILE = "golden.npz"
REPORT_JSON_FILE = "report.json"
REPORT_FILE = "report.md"

# Keys in the graphs' metadata_props
META_CONTRACT = "salgan_edge.contract_version"
META_BUNDLE_ID = "salgan_edge.bundle_id"

CONTEXT_LENGTH = 77
"""Tokens of a prompt, start and end tokens included (CLIP's context length)."""

BOS_TOKEN = "<|startoftext|>"  # noqa: S105 - a vocabulary entry
EOS_TOKEN = "<|endoftext|>"  # noqa: S105 - a vocabulary entry

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Channel statistics of RGB in 0..1 that ImageNet backbones are normalised with."""
