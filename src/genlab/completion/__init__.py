"""Completion: what the TAB key of a shell adds to a command line, without torch and, but for keys, without Hydra."""
