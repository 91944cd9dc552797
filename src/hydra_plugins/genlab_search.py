"""A place for Hydra to find genlab's sweeper: it takes plugins from this package alone."""

from genlab.launching.search import Search

__all__ = ["Search"]
