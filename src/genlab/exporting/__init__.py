"""Finished runs handed over: a folder that opens by itself, with a model card, in the forms that others read."""
