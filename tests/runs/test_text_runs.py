"""Text from the command line: trained on, continued, resumed, and refused in a line."""

import json
import math
from pathlib import Path

import pytest

from genlab.runs.loading import load
from support.command import Genlab, Result

TEXT = "".join(f"{i} green bottles hanging on the wall, number {i * 7919 % 1000}.\n" for i in range(300))
SMALL = (
    "model=transformer/gpt", "model.width=16", "model.num_layers=1", "model.num_heads=2", "dataset.shape=[16]",
    "dataset.batch_size=8", "trainer=cpu", "trainer.precision=32-true", "logger=csv",
)  # fmt: skip


@pytest.fixture
def bottles(tmp_path: Path) -> Path:
    path = tmp_path / "bottles.txt"
    path.write_text(TEXT)
    return path


def train(genlab: Genlab, path: Path, *more: str) -> Result:
    result = genlab("train", *SMALL, "dataset=text", f"dataset.source.path={path}", "budget.images=160", *more)
    assert result.code == 0, result.err
    return result


@pytest.mark.parametrize("tokenizer", ["bytes", "characters", "bpe"])
def test_a_run_writes_without_its_text(genlab: Genlab, bottles: Path, tokenizer: str) -> None:
    if tokenizer == "bpe":
        pytest.importorskip("tokenizers")
    options = ("tokenizer.vocab_size=300",) if tokenizer == "bpe" else ()
    run = train(genlab, bottles, f"tokenizer={tokenizer}", *options).run
    metrics = json.loads((run / "summary.json").read_text())["metrics"]
    figures = {name: result["value"] for name, result in metrics.items()}
    assert figures["test/nll"] == pytest.approx(16 * figures["test/nats_per_token"])
    assert figures["test/perplexity"] == pytest.approx(math.exp(figures["test/nats_per_token"]))
    if tokenizer != "bpe":  # a token is a byte
        assert figures["test/bits_per_byte"] == pytest.approx(figures["test/nats_per_token"] / math.log(2))
    assert figures["test/bits_per_char"] == pytest.approx(figures["test/bits_per_byte"])  # it is in ASCII
    assert metrics["test/nll"]["protocol"]["tokenizer_sha256"]
    assert (run / "samples" / "final.txt").read_text()
    bottles.unlink()
    written = genlab("sample", f"run={run}", "prompt='9 green'", "n=2", "length=40", "top_k=5", "temperature=0.8")
    assert written.code == 0, written.err
    first, second = written.out.rstrip("\n").split("\n" + 80 * "-" + "\n")
    assert first.startswith("9 green")
    assert second.startswith("9 green")
    assert first != second
    saved = Path(written.err.splitlines()[-1]).read_text()
    assert saved.rstrip("\n") == written.out.rstrip("\n")
    # Text i depends on the seed and i alone.
    alone = genlab("sample", f"run={run}", "prompt='9 green'", "length=40", "top_k=5", "temperature=0.8")
    assert alone.out.rstrip("\n") == first
    if tokenizer == "characters":
        refused = genlab("sample", f"run={run}", "prompt='Öl'")
        assert refused.code == 2
        assert "Ö" in refused.err
        assert len(refused.err.strip().splitlines()) == 1


def test_a_longer_budget_goes_on_to_the_bit(genlab: Genlab, bottles: Path) -> None:
    whole = load(train(genlab, bottles, "name=whole", "lr_schedule=constant").run, "last").model.state_dict()
    outputs = train(genlab, bottles, "name=part", "lr_schedule=constant", "budget.images=80").outputs
    (config,) = (outputs / "part").rglob("config.yaml")
    result = genlab("train", f"resume={config.parent}", "budget.images=160")
    assert result.code == 0, result.err
    for name, value in load(config.parent, "last").model.state_dict().items():
        assert value.equal(whole[name]), name


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"\x00\x01\xff\xfe" * 50, "UTF-8"), (b"short", "tokens"), (None, "nothing.txt")],
)
def test_text_that_cannot_be_trained_on(genlab: Genlab, tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "nothing.txt"
    if content is not None:
        path.write_bytes(content)
    result = genlab("train", *SMALL, "dataset=text", f"dataset.source.path={path}")
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1
    assert said in result.err


@pytest.mark.parametrize(
    ("option", "said"),
    [("top_p=0", "top_p above 0"), ("mode=interpolate", "writes text"), ("prompt=''", "prompt is empty"),
     ("length=0", "at least one token"), ("output=a.png", ".txt file")],
)  # fmt: skip
def test_sampling_text_refuses(genlab: Genlab, bottles: Path, option: str, said: str) -> None:
    run = train(genlab, bottles, "budget.images=8").run
    result = genlab("sample", f"run={run}", option)
    assert result.code == 2
    assert said in result.err
