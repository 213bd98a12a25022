"""Packing published gaze data into the folders that training and evaluation read."""
