"""Benchmarks of the speed of training and sampling, against a minimal PyTorch loop."""
