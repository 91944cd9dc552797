"""Evaluation of models: measures, the samples and data they are applied to, and results with their protocol."""
