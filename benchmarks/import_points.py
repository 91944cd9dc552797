"""Write the records of the recipes pacgan_* from the runs in benchmarks/points, which are older than these recipes.

    python benchmarks/import_points.py

The records lie in results/; genlab reproduce --table then renews the pages.
"""

import os
from pathlib import Path

from genlab.reproduction.importing import import_record
from genlab.reproduction.recipes import named
from genlab.runs.folder import RunFolder

ROOT = Path(__file__).parents[1]
RECIPES = {
    "pacgan_ring_gan": "ring2d/gan",
    "pacgan_ring_pacgan2": "ring2d/pacgan2",
    "pacgan_grid_gan": "grid2d/gan",
    "pacgan_grid_pacgan2": "grid2d/pacgan2",
}
SEEDS = range(5)


def main() -> None:
    os.chdir(ROOT)  # a record names its run folder by its place in the checkout
    for recipe, (name, runs) in zip(named([*RECIPES]), RECIPES.items(), strict=True):
        for seed in SEEDS:
            record = import_record(recipe, RunFolder(Path("benchmarks/points", f"{runs}-{seed}")), Path("results"))
            print(f"{name}: {record.path}")


if __name__ == "__main__":
    main()
