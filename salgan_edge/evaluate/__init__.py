"""Scores predictions against what is known of a photo; numpy and OpenCV, never PyTorch."""
