"""The table of how the metrics react to images of known quality, made of the file that the benchmark wrote."""

import json
from pathlib import Path

from genlab.errors import InputError
from genlab.machine.environment import described
from genlab.metrics.catalogue import figure


def reactions_table(file: str, root: Path) -> str:
    """Make the content of a block of reactions.

    Args:
        file: file that ``benchmarks/metrics_on_mnist.py`` or ``metrics_on_cifar10.py`` wrote, relative to ``root``.
        root: folder of the checkout.

    Raises:
        InputError: if the file is missing or damaged.
    """
    path = root / file
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = content["images"]
        names = list(next(iter(images.values())))
        rows = [
            ["images", *(figure(name).label for name in names)],
            ["---", *("---:" for _ in names)],
            *([kind, *(f"{values[name]:.4g}" for name in names)] for kind, values in images.items()),
        ]
        lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
        numbers = content.get("numbers") or f"{content['num_images']:,} images each"
        return f"{lines}\n{numbers}, {described(content['commit'])}.\n"
    except FileNotFoundError:
        raise InputError(f"reactions: there is no {path}") from None
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise InputError(f"reactions: {path} is damaged ({error})") from error
