"""Weights divided among processes: the same training as with whole ones, and the checkpoints of one process."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genlab.runs.checkpoints import read_checkpoint
from genlab.training.optimizers import MuonWithAdamW, adamw
from genlab.training.sharding import shard
from genlab.training.whole import whole
from support.command import Genlab
from support.forks import TWO, forked, in_child
from support.small_runs import COMMON, FAMILIES, assert_identical, only_run, outputs, same
from support.together import together

if sys.platform != "linux":
    pytest.skip("processes are forked", allow_module_level=True)

DIVIDED = (*TWO, "trainer.strategy=fsdp")
MUON = "training.optimizer._target_=genlab.training.optimizers.MuonWithAdamW"


class Small(nn.Module):
    """A model with a matrix, an embedding, a bias of odd length and a scale without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.codes = nn.Embedding(7, 6)
        self.codes.weight.embedding = True  # type: ignore[assignment]
        self.linear = nn.Linear(6, 5)
        self.scale = nn.Parameter(torch.tensor(0.5))

    def loss(self, x: Tensor) -> Tensor:
        return (self.scale * self.linear(self.codes(x)) - 1).square().sum(1).mean()


def batch(rank: int) -> Tensor:
    # Many, so that no gradient is of a lower rank than its matrix: Muon would make noise of its size.
    return torch.randint(7, (2, 32), generator=torch.Generator().manual_seed(0))[rank]


def divided(rank: int) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh

    return shard(Small(), init_device_mesh("cpu", (2,)))


@pytest.mark.parametrize("make", [adamw, MuonWithAdamW], ids=["AdamW", "Muon"])
def test_optimizers_tell_matrices_from_other_weights(make: Any, tmp_path: Path) -> None:
    """A flattened weight would look like a bias, and a matrix that is cut like another matrix."""

    def groups(model: nn.Module) -> list[tuple[list[str], float]]:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        optimizer = make(model.parameters(), weight_decay=0.1)
        return [([names[id(p)] for p in group["params"]], group["weight_decay"]) for group in optimizer.param_groups]

    expected = groups(Small())
    assert (["linear.weight"], 0.1) in expected or make is adamw
    assert together(2, lambda rank: groups(divided(rank)), tmp_path) == [expected] * 2


@pytest.mark.parametrize("make", [torch.optim.SGD, adamw, MuonWithAdamW], ids=["SGD", "AdamW", "Muon"])
def test_steps_are_those_of_whole_weights(make: Any, tmp_path: Path) -> None:
    def train(model: nn.Module, batches: list[Tensor], norm: bool) -> dict[str, Tensor]:
        optimizer = make(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            for x in batches:
                (model.loss(x) / len(batches)).backward()  # type: ignore[operator]
            if norm:
                found = whole(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5))
            optimizer.step()
        state: dict[str, Tensor] = whole(model.state_dict())
        return {**state, "norm": found}

    one = train(Small(), [batch(0), batch(1)], True)
    two = together(2, lambda rank: train(divided(rank), [batch(rank)], True), tmp_path)
    for found in two:
        # Muon makes matrices orthogonal in bfloat16.
        torch.testing.assert_close(found, one, atol=1e-2 if make is MuonWithAdamW else 1e-6, rtol=1e-5)
    assert same(two[0], two[1])


def test_what_is_put_together_is_what_was_divided(tmp_path: Path) -> None:
    def around(rank: int) -> list[dict[str, Any]]:
        model = divided(rank)
        states = [whole(model.state_dict())]
        model.unshard()  # type: ignore[operator]
        states.append({name: parameter.detach().clone() for name, parameter in model.named_parameters()})
        model.reshard()  # type: ignore[operator]
        return [*states, {name: list(p.shape) for name, p in model.named_parameters()}]

    given = Small().state_dict()
    shapes = {name: list(value.shape) for name, value in given.items()}
    for found in together(2, around, tmp_path):
        assert same(found[0], dict(given))
        assert same(found[1], dict(given))
        assert found[2] == shapes


@pytest.mark.parametrize("optimizer", ["AdamW", pytest.param("Muon", marks=pytest.mark.slow)])
def test_a_run_with_divided_weights_and_its_checkpoints(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, genlab: Genlab
) -> None:
    """Trained with pictures and averages, measured, gone on with in one process, and in two that divide nothing."""
    model = "transformer/image_gpt"
    options = [o for o in FAMILIES[model] if "dropout" not in o] + [MUON] * (optimizer == "Muon")
    arguments = ["train", f"model={model}", *COMMON, *options, "trainer.precision=32-true"]
    runs = []
    for name, how in (("whole", TWO), ("divided", DIVIDED)):
        folder = outputs(monkeypatch, tmp_path / name)
        assert in_child([*arguments, *how], forked) == 0
        runs.append(only_run(folder))
    checkpoints = [read_checkpoint(run / "checkpoints" / "last.ckpt") for run in runs]
    tolerance = {"atol": 1e-5, "rtol": 1e-4} if optimizer == "AdamW" else {"atol": 5e-3, "rtol": 5e-2}  # in bfloat16
    weights = [{k: v for k, v in one["state_dict"].items() if isinstance(v, Tensor)} for one in checkpoints]
    torch.testing.assert_close(weights[1], weights[0], **tolerance)
    assert checkpoints[0]["optimizer_states"][0].keys() == checkpoints[1]["optimizer_states"][0].keys()
    assert {path.name for path in (runs[0] / "samples").iterdir()} == {
        path.name for path in (runs[1] / "samples").iterdir()
    }
    assert genlab("evaluate", runs[1], "metrics.num_samples=16", "metrics.num_test=20").code == 0
    more = "trainer.max_epochs=4"
    assert in_child(["train", f"resume={runs[1]}", "trainer.devices=1", more], forked) == 0
    assert in_child(["train", f"resume={runs[1]}", "trainer.devices=2", "trainer.max_epochs=5"], forked) == 0
    summary = json.loads((runs[1] / "summary.json").read_text())
    assert summary["images_seen"] == 5 * 12 * 32


@pytest.mark.slow
def test_a_run_with_divided_weights_goes_on_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    from support.kills import kill_at

    stop = kill_at("genlab.training.objective.ObjectiveTraining.training_step", 14, signal.SIGTERM)
    arguments = ["train", "model=vae/vae", *COMMON, *FAMILIES["vae/vae"], *DIVIDED]
    runs = []
    for name, traps in (("through", (forked,)), ("stopped", (forked, stop))):
        folder = outputs(monkeypatch, tmp_path / name)

        def trap(traps: Any = traps) -> None:
            for one in traps:
                one()

        assert in_child(arguments, trap) == (143 if name == "stopped" else 0)
        runs.append(only_run(folder))
    assert in_child(["train", f"resume={runs[1]}"], forked) == 0
    assert_identical(*runs)


def test_what_cannot_be_divided_is_refused(genlab: Genlab) -> None:
    for arguments, words in (
        (("model=gan/dcgan",), "not games: trainer=ddp"),
        (("model=vae/vae", "trainer.precision=16-mixed"), "bf16-mixed or 32-true"),
    ):
        result = genlab("train", *arguments, *DIVIDED)
        assert result.code == 2
        assert words in result.err
        assert not list(result.outputs.rglob("config.yaml"))
