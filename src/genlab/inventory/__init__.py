"""Lists of models and data sets, with the facts that their configs and classes state.

Nothing is imported to learn about it: configs are read as YAML, and classes as source text.
"""
