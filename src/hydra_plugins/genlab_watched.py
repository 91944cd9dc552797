"""Register genlab's launcher with Hydra, which finds plugins in this namespace package only, by their own module."""

from genlab.launching import watched


class Watched(watched.Watched):
    """The launcher of :mod:`genlab.launching.watched`, which is put around the one that a sweep chooses."""
