"""Training: gaze data and text vectors in, checkpoints out. Never imported by the runtime."""
