"""Evaluation of what is finished: a run, a folder of images by a run's likelihood, or one set of images by another."""
