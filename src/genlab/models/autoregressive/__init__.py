"""Autoregressive models of images: the likelihood is a product of factors, one per value given those before it."""
