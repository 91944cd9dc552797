"""Measures: one file each, a class that declares its figures and measures them.

The files import nothing heavy at their top, so that ``genlab compare`` reads the declarations without PyTorch.
"""
