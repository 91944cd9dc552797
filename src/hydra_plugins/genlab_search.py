"""Make genlab's sweeper known to Hydra, which looks for plugins in this package only."""

from genlab.launching.search import Search

__all__ = ["Search"]
