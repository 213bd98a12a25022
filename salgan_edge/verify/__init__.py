"""Verifying and inspecting bundles on the device, without PyTorch and onnx."""
