"""Where the installation has its files."""

from pathlib import Path


def conf_dir() -> str:
    """Find the folder of configs: inside the installed package, or at the top of the checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise FileNotFoundError(f"no conf/ beside {package}: the installation is incomplete")
