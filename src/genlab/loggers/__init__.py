"""Loggers: ``metrics.csv`` in the run folder, and trackers such as W&B, MLflow, Aim, Trackio and TensorBoard."""
