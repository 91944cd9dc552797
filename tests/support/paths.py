"""Where the checkout is, and its configs."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
