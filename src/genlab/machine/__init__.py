"""The machine that a run uses, and the terminal that it is watched from."""
