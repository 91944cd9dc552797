"""Training and sampling beside the loops of other libraries, to peers.json: python benchmarks/peers.py [PAIR...].

Each contender has a process of its own and one thread. Libraries are used as their documentation shows, from their
packages: pip install pythae normflows zuko. A pair whose package is missing is left out, and said so.

Models are as alike as the libraries allow; the numbers of parameters stand beside them. genlab is measured twice: at
float32 like its peer, with the callbacks, the logging and the checkpoints of a run, and with its own defaults.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NUM_SAMPLES = 64


@dataclass(frozen=True)
class Contender:
    """A model that trains and samples.

    Attributes:
        train: function that trains for a number of steps.
        sample: function that draws :data:`NUM_SAMPLES` samples a number of times.
        parameters: number of parameters.
    """

    train: Callable[[int], object]
    sample: Callable[[int], object]
    parameters: int


def size(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())


def images(overrides: tuple[str, ...], num: int) -> Any:
    """Read training images of a dataset, float ``(num, C, H, W)`` in [0, 1], as a peer's loop is given them."""
    with configured(overrides) as config:
        from genlab.training.parts import assemble

        data = assemble(config).data
        stored = data.splits["train"].images[:num]
        return stored.float() / (data.source_levels - 1) if stored.dtype != stored.float().dtype else stored


@contextmanager
def configured(overrides: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    from genlab.composition.command_line import as_groups
    from genlab.composition.configs import composed
    from genlab.launching.options import TYPES
    from genlab.speed.throwaway import throwaway

    with throwaway(composed("train", as_groups(overrides)), **TYPES) as config:
        yield config


def of_genlab(overrides: tuple[str, ...], own: bool) -> Contender:
    """Build genlab's side of a pair.

    Args:
        overrides: overrides of ``genlab train``.
        own: whether to use genlab's default precision, memory format and compilation; False for float32.
    """
    from genlab.machine.process import keep_freed_memory, quiet_libraries
    from genlab.metrics.drawing import draw
    from genlab.speed.loops import GenlabLoop
    from genlab.speed.pair import run_callbacks
    from genlab.training.parts import assemble

    quiet_libraries()
    keep_freed_memory()
    stack = ExitStack()
    config = stack.enter_context(configured(overrides))
    if not own:
        config["trainer"] |= {"precision": "32-true", "compile": False}
        config["training"] |= {"channels_last": False}
    parts = assemble(config)
    callbacks, loggers = stack.enter_context(run_callbacks(config))
    loop = GenlabLoop(config["trainer"], parts.training, parts.data, callbacks(), loggers)

    def train(steps: int, _: ExitStack = stack) -> float:  # keeps the folder as long as it is called
        return loop.seconds_per_step(steps) * steps

    def sample(times: int) -> None:
        for seed in range(times):
            draw(parts.training.sampling_model, NUM_SAMPLES, seed=seed)

    return Contender(train, sample, size(parts.model))


def of_pythae(overrides: tuple[str, ...], latent_dim: int, batch_size: int) -> Contender:
    """Build pythae's VAE and its trainer, with its default networks."""
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.samplers import NormalSampler
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    x = images(overrides, 50_000)
    model = VAE(VAEConfig(input_dim=tuple(x.shape[1:]), latent_dim=latent_dim, reconstruction_loss="bce"))
    config = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=batch_size, num_epochs=1, no_cuda=True
    )

    def train(steps: int) -> None:
        some = BaseDataset(x[: steps * batch_size], torch.ones(steps * batch_size))
        trainer = BaseTrainer(model=model, train_dataset=some, training_config=config)
        trainer.prepare_training()
        started.append(time.perf_counter())
        trainer.train_step(1)

    started: list[float] = []

    def timed(steps: int) -> float:
        train(steps)
        return time.perf_counter() - started[-1]

    sampler = NormalSampler(model)

    def sample(times: int) -> None:
        for _ in range(times):
            sampler.sample(num_samples=NUM_SAMPLES, batch_size=NUM_SAMPLES)

    return Contender(timed, sample, size(model))


def of_normflows(overrides: tuple[str, ...], scales: int, steps: int, width: int, batch_size: int) -> Contender:
    """Build the Glow of normflows' example, and its loop."""
    import normflows as nf
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    x = images(overrides, 50 * batch_size)
    C, side = x.shape[1], x.shape[2]
    bases, flows, merges = [], [], []
    for i in range(scales):  # from the coarsest scale to the finest, as in the example
        channels = C * 2 ** (scales + 1 - i)
        flows.append([nf.flows.GlowBlock(channels, width) for _ in range(steps)] + [nf.flows.Squeeze()])
        if i > 0:
            merges.append(nf.flows.Merge())
        latent = (C * 2 ** (scales - i), side // 2 ** (scales - i), side // 2 ** (scales - i))
        if i == 0:
            latent = (latent[0] * 2, *latent[1:])
        bases.append(nf.distributions.DiagGaussian(latent))
    model = nf.MultiscaleFlow(bases, flows, merges, class_cond=False)
    optimizer = torch.optim.Adamax(model.parameters(), lr=1e-3, weight_decay=1e-5)
    loader = DataLoader(TensorDataset(x), batch_size=batch_size, shuffle=True, drop_last=True)

    def train(num: int) -> None:
        done = 0
        while done < num:
            for (batch,) in loader:
                noisy = batch * (255 / 256) + torch.rand_like(batch) / 256
                optimizer.zero_grad()
                loss = model.forward_kld(noisy)
                if ~(torch.isnan(loss) | torch.isinf(loss)):
                    loss.backward()
                    optimizer.step()
                done += 1
                if done == num:
                    break

    def sample(times: int) -> None:
        with torch.no_grad():
            for _ in range(times):
                model.sample(NUM_SAMPLES)

    return Contender(train, sample, size(model))


def of_zuko(overrides: tuple[str, ...], batch_size: int) -> Contender:
    """Build zuko's spline flow, and the loop of its tutorial."""
    import torch
    import zuko
    from torch.utils.data import DataLoader, TensorDataset

    x = images(overrides, 8192)
    x = (x - x.mean(0)) / x.std(0)
    flow = zuko.flows.NSF(features=2, transforms=4, hidden_features=(64, 64), bins=8)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(x), batch_size=batch_size, shuffle=True, drop_last=True)

    def train(num: int) -> None:
        done = 0
        while done < num:
            for (batch,) in loader:
                loss = -flow().log_prob(batch).mean()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                done += 1
                if done == num:
                    break

    def sample(times: int) -> None:
        with torch.no_grad():
            for _ in range(times):
                flow().sample((NUM_SAMPLES,))

    return Contender(train, sample, size(flow))


VAE = ("model=vae/vae", "dataset=binarized_mnist", "dataset.batch_size=128", "model.latent_dim=16",
       "model.networks.hidden=[512]", "model.networks.activation=relu")  # fmt: skip
GLOW = ("model=flow/glow", "dataset=cifar10", "dataset.batch_size=16", "model.edge_channel=false",
        "model.nets_normalized=false", "model.log_factor=null", "model.top_by_place=true",
        "model.logit=false")  # fmt: skip
NSF = ("model=flow/nsf", "dataset=two_moons", "dataset.batch_size=256")

PAIRS: dict[str, tuple[str, tuple[str, ...], Callable[[], Contender]]] = {
    "VAE": ("pythae", VAE, partial(of_pythae, VAE, 16, 128)),
    "Glow": ("normflows", GLOW, partial(of_normflows, GLOW, 3, 8, 64, 16)),
    "NSF": ("zuko", NSF, partial(of_zuko, NSF, 256)),
}


def serve(connection: Any, build: Callable[[], Contender]) -> None:
    """Build a contender and let it train or sample whenever it is asked to."""
    contender = build()
    connection.send(contender.parameters)
    while True:
        try:
            what, num = connection.recv()
        except EOFError:  # the last turn is over
            return
        started = time.perf_counter()
        own = getattr(contender, what)(num)
        connection.send(own if isinstance(own, float) else time.perf_counter() - started)


def measured(name: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Time the contenders of a pair in turns."""
    from genlab.speed.rounds import interleaved

    peer, overrides, build = PAIRS[name]
    builds = {peer: build, "same precision": partial(of_genlab, overrides, False)}
    builds["defaults"] = partial(of_genlab, overrides, True)
    spawn = multiprocessing.get_context("spawn")
    pipes, parameters = {}, {}
    for who, how in builds.items():
        pipes[who], theirs = spawn.Pipe()
        spawn.Process(target=serve, args=(theirs, how), daemon=True).start()
        theirs.close()
        parameters[who] = pipes[who].recv()

    def ask(who: str, what: str, num: int) -> float:
        pipes[who].send((what, num))
        answer: float = pipes[who].recv()
        return answer

    found: dict[str, Any] = {"peer": peer, "version": version(peer), "parameters": parameters, "genlab": overrides}
    for what, of_one in (("train", 1), ("sample", NUM_SAMPLES)):  # of a step, and of a sample
        for who in builds:
            ask(who, what, 3)
        num = max(3, round(seconds / (ask(peer, what, 5) / 5)))
        turns = {who: partial(ask, who, what, num) for who in builds}
        timings = interleaved(turns, rounds)
        found[what] = {
            "num": num * of_one,
            "milliseconds": {who: round(1000 * timing.median / num / of_one, 4) for who, timing in timings.items()},
            "times as fast": {
                who: round(timings[peer].times(timings[who]), 3) for who in ("same precision", "defaults")
            },
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="*", choices=[[], *PAIRS], default=[])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn of the peer")
    parser.add_argument("--output", type=Path, default=HERE / "peers.json")
    options = parser.parse_args()
    from genlab.machine.hardware import machine

    results: dict[str, Any] = {"machine": machine(), "pairs": {}, "not run": {}}
    for name in options.pairs or PAIRS:
        if importlib.util.find_spec(PAIRS[name][0]) is None:
            results["not run"][name] = f"{PAIRS[name][0]} is not installed"
        else:
            results["pairs"][name] = measured(name, options.rounds, options.seconds)
        print(name, json.dumps(results["pairs"].get(name, results["not run"].get(name)), indent=1), flush=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"  # before PyTorch is imported, here and in the contenders
    main()
