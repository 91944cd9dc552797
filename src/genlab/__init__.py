"""genlab: a laboratory for generative models.

The command line is built on this Python API::

    import genlab

    run = genlab.launch("model=vae/vae", "dataset=digits")  # or genlab.load("outputs/vae-digits/...")
    images = run.model.sample(64)
"""

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genlab.runs.loading import load as load
    from genlab.train import launch as launch

__all__ = ["launch", "load"]
__version__ = version("genlab")


def __getattr__(name: str) -> object:
    if name == "load":  # imports torch, which `genlab --help` must not
        from genlab.runs.loading import load

        return load
    if name == "launch":
        from genlab.train import launch

        return launch
    raise AttributeError(f"module 'genlab' has no attribute '{name}'")
