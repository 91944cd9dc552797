"""The choice of precision and compilation: what is chosen when which steps take how long, within the time there is."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from genlab.composition.building import plain
from genlab.composition.configs import composed
from genlab.errors import InputError
from genlab.launching.options import TYPES
from genlab.runs.folder import RunFolder
from genlab.training.parts import Parts, assemble
from genlab.training.randomness import capture
from genlab.tuning import length
from genlab.tuning.candidates import Candidate, Tuning, candidates, decided
from genlab.tuning.choosing import Measured, choose
from genlab.tuning.length import batches_of, run_seconds, seconds_of, seconds_of_a_step
from genlab.tuning.measuring import MOST_ROUNDS, TrialError, measure
from genlab.tuning.processes import started
from genlab.tuning.sweep import kind_of, shared
from support.small_runs import same

CPU = torch.device("cpu")
EAGER, COMPILED = Candidate("32-true", False, False), Candidate("32-true", False, True)
SMALL = ("model=vae/vae", "model.networks.hidden=[8]", "dataset=digits", "dataset.train_size=256", "trainer=cpu")


def built(folder: Path, *overrides: str) -> tuple[dict[str, Any], Parts]:
    cfg = composed("train", [*SMALL, "logger=csv", *overrides])
    cfg.run_dir = str(RunFolder.claim(folder / "run").path)
    config = plain(cfg, **TYPES)
    return config, assemble(config)


class Clock:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Stub:
    """A candidate whose first steps and steps take given seconds of a clock, with noise if there are several."""

    def __init__(self, clock: Clock, ready: float, *steps: float, fault: str | None = None) -> None:
        self.clock, self.ready, self.steps, self.fault = clock, ready, steps, fault
        self.turns = 0
        self.closed = False

    def first_steps(self, within: float) -> tuple[float, int, float] | None:
        if self.fault is not None:
            raise TrialError(self.fault)
        waited = max(0.0, self.ready - self.clock.now)
        self.clock.now += min(waited, within)
        return None if waited > within else (self.ready, 3, self.steps[0])

    def seconds_per_step(self, steps: int, within: float) -> float | None:
        assert not self.closed
        seconds = self.steps[self.turns % len(self.steps)]
        self.turns += 1
        self.clock.now += min(steps * seconds, within)
        return None if steps * seconds > within else seconds

    def close(self) -> None:
        self.closed = True


def chosen(batches: float, seconds: float = 30.0, **stubs: tuple[Any, ...]) -> tuple[str, list[Measured], float]:
    """The name of the stub that is chosen among stubs by name, the run's own first."""
    clock = Clock()
    names = dict(zip(stubs, (EAGER, COMPILED, Candidate("bf16-mixed", False, False)), strict=False))
    made = {names[name]: Stub(clock, *timings) for name, timings in stubs.items()}
    found = measure(list(made), made.__getitem__, lambda _: seconds, clock)
    assert all(stub.closed for stub in made.values())
    index, _ = choose(found, batches)
    return list(stubs)[index], found, clock.now


def test_compiling_is_chosen_if_the_whole_run_becomes_shorter() -> None:
    """It takes 10 s here and saves 4 ms of 10 ms a step: from some 2,500 steps on, and 3 % of the run more."""
    stubs = {"eager": (0.03, 0.010), "compiled": (10.0, 0.006)}
    assert chosen(2_000, **stubs)[0] == "eager"
    assert chosen(2_500, **stubs)[0] == "eager"
    assert chosen(10_000, **stubs)[0] == "compiled"
    assert chosen(float("inf"), **stubs)[0] == "compiled"


def test_what_takes_longer_than_there_is_time_is_cut_short() -> None:
    name, (own, other), took = chosen(float("inf"), eager=(0.03, 0.01), compiled=(60.0, 0.001))
    assert name == "eager"
    assert other.fault == "not ready within 21 s"
    assert other.rounds == []
    assert len(own.rounds) == 1
    assert took <= 30
    # A run's own choice that is not ready leaves nothing to compare with.
    name, (own, other), took = chosen(float("inf"), compiled=(60.0, 0.001), eager=(0.03, 0.01))
    assert (name, own.fault, other.rounds) == ("compiled", "not ready within 21 s", [])


def test_the_time_is_kept_and_the_rounds_take_turns() -> None:
    _, found, took = chosen(float("inf"), eager=(0.03, 0.01), compiled=(5.0, 0.008), other=(0.03, 0.02))
    assert [len(one.rounds) for one in found] == [MOST_ROUNDS] * 3
    assert took <= 30
    # Steps of half a second: what does not fit is left out, and three rounds are needed for another choice.
    name, found, took = chosen(float("inf"), eager=(0.5, 0.5), compiled=(0.5, 0.3), seconds=6.0)
    assert took <= 6
    assert name == "compiled"
    name, found, took = chosen(float("inf"), eager=(0.5, 2.0), compiled=(0.5, 0.3), seconds=6.0)
    assert took <= 6
    assert name == "eager"
    assert len(found[0].rounds) < 3


def test_the_time_shrinks_when_the_run_turns_out_shorter() -> None:
    clock = Clock()
    made = {EAGER: Stub(clock, 1.0, 0.01), COMPILED: Stub(clock, 12.0, 0.001)}
    found = measure(list(made), made.__getitem__, lambda step: 30.0 if step is None else 1000 * step, clock)
    assert found[1].fault == "not ready within 7 s"
    assert clock.now <= 10


def test_noise_is_no_reason() -> None:
    noisy = (0.010, 0.013, 0.009, 0.012, 0.008, 0.011, 0.010)
    name, _, _ = chosen(float("inf"), eager=(0.03, *noisy), compiled=(0.1, *noisy[3:], *noisy[:3]))
    assert name == "eager"
    # What slows both in a round tells nothing of either.
    name, _, _ = chosen(float("inf"), eager=(0.03, *noisy), compiled=(0.1, *(0.9 * step for step in noisy)))
    assert name == "compiled"


@pytest.mark.parametrize("seed", range(20))
def test_nothing_slower_than_the_runs_own_is_chosen(seed: int) -> None:
    """Whatever the candidates take, with noise of a tenth on each measurement."""
    draw = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=draw))

    true = {name: uniform(0.005, 0.02) for name in ("own", "compiled", "other")}
    stubs = {
        name: (uniform(0.1, 10), *(step * uniform(0.95, 1.05) for _ in range(MOST_ROUNDS)))
        for name, step in true.items()
    }
    name, _, took = chosen(float("inf"), **stubs)
    assert true[name] <= 1.05 * true["own"]
    assert true[name] <= 1.15 * min(true.values())
    assert took <= 30


def test_a_candidate_that_fails_is_left_out() -> None:
    clock = Clock()
    made = {EAGER: Stub(clock, 0.1, 0.01), COMPILED: Stub(clock, 0.1, 0.001, fault="no memory")}
    found = measure(list(made), made.__getitem__, lambda _: 30.0, clock)
    assert choose(found, 1e6) == (0, "nothing else could be measured")
    assert found[1].fault == "no memory"
    made = {EAGER: Stub(clock, 0.1, 0.01, fault="no memory"), COMPILED: Stub(clock, 0.1, 0.001)}
    found = measure(list(made), made.__getitem__, lambda _: 30.0, clock)
    assert choose(found, 1e6) == (0, "no memory")


def test_the_candidates(tmp_path: Path) -> None:
    config, parts = built(tmp_path, "trainer.precision=32-true", "trainer.compile=auto")
    trainer = config["trainer"]
    of_compiling = candidates(trainer, parts.training, CPU, 100, ["compile"])
    assert of_compiling == [EAGER, COMPILED]  # auto does not compile a run of 100 batches
    assert candidates(trainer, parts.training, CPU, 10_000, ["compile"]) == [COMPILED, EAGER]
    both = candidates(trainer, parts.training, CPU, 100, ["compile", "precision", "tf32"])
    assert both[:2] == [EAGER, COMPILED]
    assert {(one.precision, one.compile) for one in both[2:]} <= {("bf16-mixed", False), ("bf16-mixed", True)}
    assert candidates(trainer, parts.training, CPU, 100, ["tf32"]) == [EAGER]


def test_what_was_given_and_what_stands_for_a_paper_is_decided() -> None:
    config = {"reference": None, "choices": {"experiment": None}}
    assert decided(["trainer.max_epochs=3", "model=vae/vae"], config) == {}
    assert decided(["trainer.compile=true"], config) == {"compile": "trainer.compile=true was given"}
    assert decided(["+trainer.tf32=true"], config) == {"tf32": "+trainer.tf32=true was given"}
    of_paper = decided(["trainer.compile=true"], {"reference": {}, "choices": {"experiment": "paper/x"}})
    assert of_paper["precision"] == of_paper["tf32"] == "experiment=paper/x stands for published figures"
    assert of_paper["compile"] == "trainer.compile=true was given"


@pytest.mark.parametrize(
    ("settings", "processes", "line"),
    [
        ({"tune": "auto", "tune_seconds": 0}, 1, "trainer.tune_seconds=0: above 0 and at most 600"),
        ({"tune": "auto"}, 2, "trainer.tune=auto: it measures one device, and this run has 2"),
        ({"tune_precision": True}, 1, "trainer.tune_precision=true: nothing is measured with trainer.tune=off"),
    ],
)
def test_what_cannot_be_measured_is_refused(settings: dict[str, Any], processes: int, line: str) -> None:
    with pytest.raises(InputError, match=line):
        Tuning.from_config(settings, processes)


def test_how_long_a_run_is(tmp_path: Path) -> None:
    config, parts = built(tmp_path, "dataset.batch_size=32", "trainer.max_epochs=10")
    assert batches_of(config, parts) == 80
    config["trainer"]["limit_train_batches"] = 0.5
    assert batches_of(config, parts) == 40
    config["trainer"] |= {"max_steps": 30}
    assert batches_of(config, parts) == 30
    parts.training.images = 65
    assert batches_of(config, parts) == 3
    parts.training.images = None
    config["trainer"] |= {"max_steps": -1, "max_epochs": -1}
    assert batches_of(config, parts) is None
    assert seconds_of("01:02:03:04") == 93784
    assert seconds_of({"minutes": 2}) == 120
    assert run_seconds(float("inf"), 0.1, None) == float("inf")
    assert run_seconds(100, 0.1, None) == pytest.approx(10)
    assert run_seconds(float("inf"), 0.1, 60.0) == 60
    assert run_seconds(100, None, None) == float("inf")


@pytest.mark.parametrize("model", [("model=vae/vae",), ("model=gan/mlp", "dataset=ring2d")])
def test_an_estimate_changes_nothing(model: tuple[str, ...], tmp_path: Path) -> None:
    cfg = composed("train", [*model, "dataset.batch_size=16", "trainer=cpu", "logger=csv"])
    cfg.run_dir = str(RunFolder.claim(tmp_path / "run").path)
    parts = assemble(plain(cfg, **TYPES))
    state = {name: tensor.clone() for name, tensor in parts.training.state_dict().items()}
    randomness = capture(CPU)
    seconds = seconds_of_a_step(parts, "bf16-mixed", CPU)
    assert seconds is not None
    assert 0 < seconds < 60
    assert same(randomness, capture(CPU))
    assert same(state, dict(parts.training.state_dict()))
    assert all(parameter.grad is None for parameter in parts.training.parameters())
    assert next(iter(parts.data.train_dataloader()))[0].shape[0] == 16


def test_an_estimate_that_fails_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, parts = built(tmp_path)
    monkeypatch.setattr(length.copy, "deepcopy", lambda _: 1 / 0)
    assert seconds_of_a_step(parts, "32-true", CPU) is None


def test_jobs_of_a_sweep_share_a_choice(tmp_path: Path) -> None:
    made = iter([None, {"chosen": {"compile": True}}])
    assert shared(tmp_path, "kind", 1.0, lambda: next(made)) == (None, False)  # nothing to keep
    assert shared(tmp_path, "kind", 1.0, lambda: next(made)) == ({"chosen": {"compile": True}}, False)
    assert shared(tmp_path, "kind", 1.0, lambda: next(made)) == ({"chosen": {"compile": True}}, True)
    with pytest.raises(StopIteration):
        shared(tmp_path, "another", 1.0, lambda: next(made))
    # While another process measures, a job waits, and then it goes on by itself.
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / ".tuned" / "held.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        began = time.monotonic()
        assert shared(tmp_path, "held", 0.3, lambda: {"chosen": {}}) == ({"chosen": {}}, False)
        assert 0.3 <= time.monotonic() - began < 5


def test_what_a_kind_of_job_is(tmp_path: Path) -> None:
    def kind(number: int, *overrides: str, free: tuple[str, ...] = ("compile",)) -> str:
        config, parts = built(tmp_path / str(number), *overrides)
        return kind_of(config, parts, CPU, free)

    first = kind(0)
    assert first == kind(1, "seed=3", "tags=[a]", "metrics.num_samples=16")
    others = ("model.latent_dim=3", "dataset.batch_size=16", "training.ema_decay=0.9", "trainer.max_epochs=3")
    assert len({first, *(kind(2 + number, other) for number, other in enumerate(others))}) == 5
    assert first != kind(9, free=("compile", "precision"))


def test_processes_measure_wait_and_end(tmp_path: Path) -> None:
    """One that is not ready is ended at once, and one that cannot train says why."""
    config, _ = built(tmp_path, "trainer.precision=32-true")
    broken = {**config, "dataset": {**config["dataset"], "batch_size": 10_000}}
    with started(config) as start, started(broken) as start_broken:
        began = time.monotonic()
        one, other, failing = start(EAGER), start(COMPILED), start_broken(EAGER)
        assert other.first_steps(0.1) is None
        other.close()
        assert time.monotonic() - began < 5
        assert other._process.returncode == -9
        first = one.first_steps(120.0)
        assert first is not None
        assert first[1] == 3
        seconds = [one.seconds_per_step(4, 60.0) for _ in range(2)]
        assert all(s is not None and 0 < s < 10 for s in seconds)
        with pytest.raises(TrialError, match="256 training examples do not fill one batch of 10000"):
            failing.first_steps(120.0)
        folder = Path(one._process.args[-1])  # type: ignore[index]
        assert folder.is_dir()
        one._process.kill()
        with pytest.raises(TrialError, match="its process ended with code -9"):
            one.seconds_per_step(1, 30.0)
        for process in (one, failing):
            process.close()
    assert not folder.exists()
