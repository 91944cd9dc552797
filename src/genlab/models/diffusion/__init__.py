"""Models in continuous time: flow matching, diffusion, and their one-step kin."""
