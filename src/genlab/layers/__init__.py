"""Layers and operations on tensors that networks and models are built from."""
