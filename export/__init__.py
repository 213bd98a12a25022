"""Authoring: PyTorch checkpoints in, bundles out. Never imported by the runtime."""
