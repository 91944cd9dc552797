"""genlab: a laboratory for generative models.

The commands of the command line are functions of Python, too::

    import genlab

    run = genlab.train(model="vae/vae", dataset="digits")  # or genlab.load("outputs/vae-digits/...")
    images = run.model.sample(64)
    table = genlab.compare("outputs")  # a pandas DataFrame

Nothing heavy is imported before a function is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genlab.api import compare as compare
    from genlab.api import evaluate as evaluate
    from genlab.api import export as export
    from genlab.api import reproduce as reproduce
    from genlab.api import runs as runs
    from genlab.api import sample as sample
    from genlab.api import sweep as sweep
    from genlab.api import train as train
    from genlab.commands.called import launch as launch
    from genlab.runs.loading import load as load

    __version__: str

# Where the public functions are: some of these modules import torch, which `genlab --help` must not.
_PLACES = {
    **dict.fromkeys(
        ("compare", "evaluate", "export", "reproduce", "sample", "sweep", "train"),
        "genlab.api",
    ),
    "launch": "genlab.commands.called",
    "load": "genlab.runs.loading",
}

__all__ = ["compare", "evaluate", "export", "launch", "load", "reproduce", "runs", "sample", "sweep", "train"]


def __getattr__(name: str) -> object:
    if name == "runs":  # a package that can be called; paths of classes go through it, whatever was imported before
        return import_module("genlab.runs")
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    if name == "__version__":
        from importlib.metadata import version  # which takes longer than the rest of this file

        return version("genlab")
    raise AttributeError(f"module 'genlab' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
