"""Kinds of data: what an example is, how it is shown and kept, and what an extractor of features sees of it."""
