"""Networks that several models share, built from layers: the transformer, and residual networks of GANs."""
