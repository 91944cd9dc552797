"""Loggers: ``metrics.csv`` in the run folder, and Weights & Biases."""
