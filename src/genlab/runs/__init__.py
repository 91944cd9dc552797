"""Run folders: writing, reading, evaluating and resuming runs on disk."""
