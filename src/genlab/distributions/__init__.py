"""Probability distributions of pixel values, and the random numbers that samples are drawn from."""
