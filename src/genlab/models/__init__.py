"""Generative models, one folder per family, behind a common interface."""
