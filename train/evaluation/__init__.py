"""Scores bundles on human gaze, through ONNX Runtime alone."""
