"""Callbacks of training: checkpoints, watching, pictures and progress."""
