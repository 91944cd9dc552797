"""Measures: one file per measure, with a class that declares its figures and computes them."""

# The files import nothing heavy at the top level, so that genlab compare reads the declarations without PyTorch.
