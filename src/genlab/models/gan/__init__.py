"""Generative adversarial networks: models, losses, regularizers and augmentation."""
