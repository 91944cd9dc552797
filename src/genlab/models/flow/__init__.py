"""Normalizing flows: invertible maps between data and noise, with a likelihood by the change of variables."""
