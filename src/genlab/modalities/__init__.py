"""Modalities, the kinds of data: format of an example, how it is shown and stored, and its view for features."""
