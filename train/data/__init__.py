"""Reading gaze data, text vectors and object prompts; splits by photo."""
