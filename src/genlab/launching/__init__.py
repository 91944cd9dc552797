"""Launching: begin or resume a run, train it in one or several processes, and summarize it; sweeps and searches."""
