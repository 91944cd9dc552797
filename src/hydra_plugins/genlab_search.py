"""Register genlab's sweeper with Hydra, which finds plugins in this namespace package only, by their own module."""

from genlab.launching import search


class Search(search.Search):
    """The search of :mod:`genlab.launching.search`, under the name that ``conf/hydra/sweeper/optuna.yaml`` gives."""
