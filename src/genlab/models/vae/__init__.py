"""Variational autoencoders: an encoder infers latents, and training maximises a lower bound on the likelihood."""
