"""What is known of every figure: its name for people, which direction is better, and what must agree to compare two.

Nothing heavy is imported here, so that runs can be compared without PyTorch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

SAMPLES = (
    "dataset",
    "levels",
    "binarization",
    "features",
    "weights_sha256",
    "channels",
    "resize",
    "reference",
    "num_real",
    "num_samples",
    "temperature",
)
MODES = ("dataset", "levels", "binarization", "classifier_sha256", "mode", "num_modes", "num_samples", "temperature")
LIKELIHOOD = ("dataset", "levels", "binarization", "test_sha256", "standardized", "split", "num")
TEXT = ("dataset", "test_sha256", "split")  # of characters and bytes, that tokenizers share


@dataclass(frozen=True)
class Figure:
    """A metric.

    Attributes:
        label: for people.
        better: the direction; ``None`` where there is none.
        protocol: the fields of its protocol that must agree before two values stand in one column.
    """

    label: str
    better: Literal["min", "max"] | None = None
    protocol: tuple[str, ...] = SAMPLES


FIGURES = {
    "bits_per_dim": Figure("bits/dim", "min", LIKELIHOOD),
    "nll": Figure("NLL", "min", LIKELIHOOD),
    "bits_per_dim_iw": Figure("bits/dim, importance-weighted", "min", (*LIKELIHOOD, "draws")),
    "nll_iw": Figure("NLL, importance-weighted", "min", (*LIKELIHOOD, "draws")),
    "nats_per_token": Figure("nats/token", "min", (*TEXT, "tokenizer", "tokenizer_sha256")),
    "perplexity": Figure("perplexity of a token", "min", (*TEXT, "tokenizer", "tokenizer_sha256")),
    "bits_per_char": Figure("bits/character", "min", TEXT),
    "bits_per_byte": Figure("bits/byte", "min", TEXT),
    "fid": Figure("FID", "min"),
    "kid": Figure("KID", "min", (*SAMPLES, "estimator")),
    "inception_score": Figure("inception score", "max"),
    "precision": Figure("precision", "max"),
    "recall": Figure("recall", "max"),
    "density": Figure("density", "max"),
    "coverage": Figure("coverage", "max"),
    "modes": Figure("modes", "max", MODES),
    "high_quality": Figure("high quality", "max", MODES),
    "kl_to_uniform": Figure("KL to uniform", "min", MODES),
    "classifier_confidence": Figure("classifier's confidence", None, MODES),
    "rate": Figure("rate", None, LIKELIHOOD),
    "distortion": Figure("distortion", None, LIKELIHOOD),
    "active_units": Figure("active units", None, LIKELIHOOD),
    "active_blocks": Figure("active blocks", None, LIKELIHOOD),
    "aggregate_gap": Figure("aggregate posterior's gap", "min", LIKELIHOOD),
    "codebook_use": Figure("codebook use", "max", LIKELIHOOD),
    "codebook_perplexity": Figure("codebook's perplexity", "max", LIKELIHOOD),
    "inverse_error": Figure("decoding's error", "min", LIKELIHOOD),
    "too_near_to_train": Figure("too near to train", "min"),
    "loss": Figure("loss", "min"),
}


def short(name: str) -> str:
    """``test/fid`` is ``fid``."""
    return name.rpartition("/")[2]


def figure(name: str) -> Figure:
    """What is known of ``test/fid``, ``val/fid`` or ``fid``."""
    return FIGURES.get(short(name), Figure(short(name)))


def digits(value: float) -> str:
    return f"{value:.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2e}"


def remark(result: Mapping[str, Any]) -> str:
    """A result's protocol in a few words."""
    protocol = result["protocol"]
    words = [result["unit"]] if "unit" in result else []
    examples = "windows" if "windows" in protocol else "images" if "levels" in protocol else "examples"
    if "likelihood" in protocol:
        kind = str(protocol["likelihood"]).replace("_", " ")
        draws = f", {protocol['draws']:,} draws" if protocol.get("draws", 1) > 1 else ""
        words.append(f"{kind}{draws}, {protocol['num']:,} test {examples}")
    elif "split" in protocol:
        words.append(f"{protocol['num']:,} {protocol['split']} {examples}")
    elif "num_modes" in protocol:
        words.append(f"{protocol['num_samples']:,} samples")
        words += [f"of {result['out_of']:,}"] if "out_of" in result else []
        words += [f"{result['sampling_floor']:.2g} by sampling alone"] if "sampling_floor" in result else []
    else:
        reference = Path(str(protocol["reference"])).name  # a split, or a folder
        words.append(
            f"{protocol['features']} features, {protocol['num_samples']:,} samples, "
            f"{protocol['num_real']:,} {reference} images"
        )
        words += [f"{result['expected']:g} expected"] if "expected" in result else []
    return "; ".join(words)
