"""genlab: a laboratory for generative models.

The Python API the command line is made of::

    import genlab

    run = genlab.load("outputs/vae-digits/20260101-120000-abc123")
    images = run.model.sample(64)
"""

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genlab.runs.loading import load as load

__all__ = ["load"]
__version__ = version("genlab")


def __getattr__(name: str) -> object:
    if name == "load":  # imports torch, which `genlab --help` must not
        from genlab.runs.loading import load

        return load
    raise AttributeError(f"module 'genlab' has no attribute '{name}'")
