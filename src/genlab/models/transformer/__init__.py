"""Transformers as generative models: over text, over the values of an image, and over masked tokens."""
