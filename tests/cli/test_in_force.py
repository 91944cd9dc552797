"""A setting is in force, or it is refused in one line before anything is trained."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from genlab.composition.configs import composed
from genlab.composition.in_force import check_in_force
from genlab.composition.named_parts import named, without_unchosen
from genlab.errors import InputError
from genlab.models.gan.dcgan import DCGAN
from genlab.models.gan.regularizers import DRAGAN, R1, R2, Consistency, GradientPenalty, Regularizer, WeightClipping
from support.catalogue import MODELS
from support.command import FAST, Genlab

TINY_STYLEGAN = ("model=gan/stylegan2", "model.channels=8", "model.latent_dim=8", "model.style_dim=8")


def refused(genlab: Genlab, *overrides: str) -> str:
    result = genlab("train", "logger=csv", *overrides)
    assert result.code == 2, result.err
    (line,) = [line for line in result.err.splitlines() if "is now" not in line]
    assert line.startswith("genlab: error: ")
    assert not list(result.outputs.rglob("config.yaml"))
    return line


# -- what nothing uses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("text/tokenizer=bpe",), "text/tokenizer=bpe: nothing that was chosen (model=vae/vae, dataset=digits) uses"),
        (
            ("model=gan/dcgan", "distribution=logistic"),
            "distribution=logistic: nothing that was chosen (model=gan/dcgan",
        ),
        (("model=flow/real_nvp", "distribution=gaussian"), "uses distribution; leave it out"),
        (("model=transformer/maskgit", "distribution=categorical"), "uses distribution; leave it out"),
        (("model=gan/dcgan", "distribution.num_components=3"), "distribution.num_components=3: nothing that was"),
        (("+width=8",), "+width=8: nothing that was chosen"),
        (
            (*TINY_STYLEGAN, "gan/regularizer=[]", "training.regularizers.r1.every=4"),
            "training.regularizers.r1.every=4: there is no training.regularizers.r1 in this run",
        ),
        (("+callbacks.bset.mode=max",), "+callbacks.bset.mode=max: there is no callbacks.bset in this run"),
        (("+logger.mine.path=x",), "there is no logger.mine in this run"),
        (("+metrics.measures.mine.num=3",), "there is no metrics.measures.mine in this run"),
        (("model=vae/vae", "gan/loss=hinge"), "nothing that was chosen (model, dataset, experiment) has this group"),
    ],
)
def test_what_nothing_uses_is_refused(genlab: Genlab, overrides: tuple[str, ...], said: str) -> None:
    assert said in refused(genlab, *overrides)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_optional_group_is_used_or_refused(model: str) -> None:
    """Of each group that a model may ignore: the composed model or data set refers to it, or the choice is refused."""
    dataset = {"gan/mlp": "ring2d", "transformer/gpt": "python_docs"}.get(model, "digits")
    if model.startswith("flow/") and model.rsplit("/", 1)[1] in ("maf", "nsf", "real_nvp_points"):
        dataset = "two_moons"
    for group, option, node in (
        ("distribution", "categorical", "distribution"),
        ("text/tokenizer", "bytes", "tokenizer"),
        ("lr_schedule", "linear", "schedule"),
    ):
        cfg = composed("train", [f"model={model}", f"dataset={dataset}", f"{group}={option}"])
        users = [str(value) for key, value in vars_of(cfg) if key != node]
        is_used = any("${" + node + "}" in text for text in users)
        if is_used:
            check_in_force(cfg, [f"{group}={option}"])
        else:
            with pytest.raises(InputError, match=f"^{group}={option}: nothing that was chosen"):
                check_in_force(cfg, [f"{group}={option}"])
        assert is_used or group != "lr_schedule"


def vars_of(cfg: Any) -> list[tuple[str, Any]]:
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(cfg, resolve=False)
    return list(content.items())


@pytest.mark.parametrize(
    "overrides",
    [
        (
            "model=vae/vae",
            "distribution=logistic",
            "lr_schedule=cosine",
            "schedule.warmup_steps=3",
            "seed=3",
            "tags=[a]",
        ),
        ("dataset=python_docs", "model=transformer/gpt", "text/tokenizer=bytes"),
        ("dataset=palette", "dataset@dataset.of=mnist", "model=transformer/maskgit"),
        (*TINY_STYLEGAN, "training.regularizers.r1.every=4", "gan/augment=ada", "training.augment.target=0.5"),
        ("callbacks=minimal", "callbacks.sample_grid=null", "~callbacks.best"),
        ("experiment=quickstart", "debug=limit", "trainer=cpu", "metrics/features=pixels", "paths.output_dir=x"),
        ("+width=8", "model.networks.hidden=[${width}]"),
        ("+callbacks.mine._target_=genlab.callbacks.throughput.Throughput", "+callbacks.mine.warmup=2"),
        ("budget.images=10", "monitor.metric=val/nll", "++sampling.temperature=0.5", "sweep.resume=x", "group=g"),
    ],
)
def test_what_is_used_is_not_refused(overrides: tuple[str, ...]) -> None:
    cfg = composed("train", overrides)
    check_in_force(cfg, overrides)


# -- parts that were not chosen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", ["[]", pytest.param("path_length", marks=pytest.mark.slow)])
def test_a_models_regularizers_can_be_replaced(genlab: Genlab, regularizer: str) -> None:
    few = ("debug=fast_dev_run", "callbacks=minimal", "metrics.num_samples=6", "metrics.num_test=4")
    result = genlab("train", *TINY_STYLEGAN, f"gan/regularizer={regularizer}", "dataset.batch_size=8", *few)
    assert result.code == 0, result.err


class Part(nn.Module):
    pass


@pytest.mark.parametrize(
    ("value", "annotation", "left"),
    [
        ({"a": {"x": 1}, "b": {"_target_": "m.B"}, "c": None}, Mapping[str, Part] | None, ["b", "c"]),
        ({"a": {"x": 1}}, Mapping[str, Part | None], []),
        ({"a": {"x": 1}}, dict[str, Any], ["a"]),
        ({"a": 1}, Mapping[str, int], ["a"]),
        ({"_target_": "m.B", "x": 1}, Part | None, ["_target_", "x"]),
        ({"x": 1}, Part, ["x"]),
    ],
)
def test_parts_without_a_target_are_left_out(value: Any, annotation: Any, left: list[str]) -> None:
    assert list(without_unchosen(value, annotation)) == left


def test_a_single_part_without_a_target_is_none() -> None:
    assert without_unchosen({"x": 1}, Part | None) is None
    assert without_unchosen(3, Part | None) == 3
    assert named({"a": {"x": 1}, "b": {"_target_": "m"}, "c": None}) == [("b", {"_target_": "m"})]


# -- penalties and batch normalization ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gradient_penalty", "r1", "r2", "dragan"])
def test_a_gradient_penalty_refuses_batch_normalization(genlab: Genlab, name: str) -> None:
    line = refused(genlab, "model=gan/dcgan", f"gan/regularizer={name}")
    assert f"gan/regularizer={name}: " in line
    assert "batch normalization in the discriminator mixes: set model.normalization=none or spectral" in line


@pytest.mark.parametrize("normalization", ["batch", "spectral", "none"])
def test_what_a_regularizer_allows(normalization: Any) -> None:
    model = DCGAN((1, 8, 8), channels=4, normalization=normalization)
    others: list[Regularizer] = [Consistency(), WeightClipping()]
    for regularizer in [R1(), R2(), GradientPenalty(), DRAGAN()] if normalization != "batch" else []:
        regularizer.check(model)
    for regularizer in others:
        regularizer.check(model)


def test_batch_normalization_is_found_wherever_it_is() -> None:
    model = DCGAN((1, 8, 8), channels=4, normalization="none")
    model.discriminator.add_module("more", nn.Sequential(nn.SyncBatchNorm(4)))
    with pytest.raises(InputError, match="batch normalization"):
        GradientPenalty().check(model)


# -- the monitored figure ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("monitor.metric=val/foo",), "monitor.metric=val/foo: validation measures no such figure"),
        (("monitor.metric=val/bit_per_dim",), "did you mean val/bits_per_dim?"),
        (("monitor.metric=nll",), "did you mean val/nll?"),
        (("monitor.metric=train/loss",), "validation measures no such figure"),
        (("monitor.metric=val/fid",), "because callbacks.sample_metrics.num_samples is null"),
        (("model=gan/dcgan", "model.channels=4", "monitor.metric=val/nll"), "there is val/accuracy_real, "),
        (("model=gan/mlp", "dataset=ring2d", "monitor.metric=val/fid"), "because metrics.features is null"),
        (("model=gan/mlp", "dataset=two_moons", "monitor.metric=val/modes"), "because metrics.modes is null"),
    ],
)
def test_a_figure_that_is_not_measured_cannot_be_monitored(
    genlab: Genlab, overrides: tuple[str, ...], said: str
) -> None:
    assert said in refused(genlab, *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ("monitor.metric=val/rate",),
        ("monitor.metric=val/fid", "callbacks.sample_metrics.num_samples=20"),
        ("model=gan/dcgan", "model.channels=4", "callbacks.sample_metrics.num_samples=null"),  # not asked for
        ("model=gan/dcgan", "model.channels=4", "monitor.metric=val/accuracy_real"),
    ],
)
def test_a_figure_that_may_be_monitored(genlab: Genlab, overrides: tuple[str, ...]) -> None:
    result = genlab("train", *overrides, "debug=fast_dev_run", "metrics.num_samples=6", "callbacks=minimal")
    assert result.code == 0, result.err


# -- budgets and counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("budget.images=-5", "budget.images=-5: at least 1, or null for no limit"),
        ("budget.images=0", "budget.images=0: at least 1"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0: at least 1, or -1 for no limit; a run trains"),
        ("trainer.max_epochs=-5", "trainer.max_epochs=-5: at least 1"),
        ("trainer.max_steps=0", "trainer.max_steps=0: at least 1"),
        ("trainer.max_steps=-2", "trainer.max_steps=-2: at least 1"),
        ("trainer.check_val_every_n_epoch=0", "trainer.check_val_every_n_epoch=0: at least 1"),
        ("+trainer.limit_train_batches=0", "trainer.limit_train_batches=0: at least 1"),
        ("+trainer.limit_train_batches=-0.5", "trainer.limit_train_batches=-0.5: a number of batches"),
        ("+trainer.limit_val_batches=-1", "trainer.limit_val_batches=-1: a number of batches"),
    ],
)
def test_a_budget_is_positive(genlab: Genlab, override: str, said: str) -> None:
    assert said in refused(genlab, override)


# -- one batch, to see that everything runs ----------------------------------------------------------------------------


def test_a_trial_logs_nothing_and_is_not_compared(genlab: Genlab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    trial = genlab("train", "debug=fast_dev_run", "model.networks.hidden=[8]", "callbacks=minimal")
    assert trial.code == 0, trial.err
    run = trial.run
    assert not (run / "wandb").exists()
    assert not (run / "metrics.csv").exists()
    assert not list((run / "checkpoints").iterdir())
    assert "checkpoints" not in trial.out
    assert json.loads((run / "status.json").read_text())["status"] == "done"
    alone = genlab("compare", trial.outputs)
    assert alone.code == 2
    assert "1 run is of debug=fast_dev_run, whose figures mean nothing" in alone.err
    done = genlab("train", "logger=csv", "model.networks.hidden=[8]", "callbacks=minimal", *FAST)
    assert done.code == 0, done.err
    for form in ("table", "markdown", "json"):
        compared = genlab("compare", trial.outputs, f"format={form}")
        assert compared.code == 0, compared.err
        assert "1 run is left out: debug=fast_dev_run" in compared.out
        assert run.name not in compared.out


def test_asking_what_validation_logs_changes_nothing() -> None:
    """Neither weights, nor the random stream of training."""
    from genlab.composition.building import plain
    from genlab.training.parts import assemble

    for overrides in (["model.networks.hidden=[8]"], ["model=vae/vq_vae", "model.channels=8"]):
        cfg = composed("train", [*overrides, "logger=csv"])
        parts = assemble(plain(cfg))
        before = {name: value.clone() for name, value in parts.model.state_dict().items()}
        stream = torch.get_rng_state()
        names = parts.training.figures_of_validation(parts.data)
        assert names is not None
        assert {"loss", "bits_per_dim"} <= names
        assert torch.equal(stream, torch.get_rng_state())
        assert all(torch.equal(value, before[name]) for name, value in parts.model.state_dict().items())
        assert parts.model.training


@pytest.mark.parametrize(
    "override",
    [
        "dataset.train_size=-3", "dataset.batch_size=-3", "+dataset.num_workers=-1",
        "dataset.val_size=-3", "dataset.test_size=-1", "dataset.num_classes=-1", "metrics.num_samples=-1",
        "metrics.num_test=-1", "metrics.num_test=0", "metrics.num_shown=0", "callbacks.sample_grid.num_samples=-1",
        "callbacks.sample_grid.every_n_validations=0", "callbacks.latent_grid.num_images=0",
        "callbacks.latent_watch.num_images=0", "callbacks.latent_watch.every_n_validations=0",
        "callbacks.likelihood_histogram.num_images=-4", "callbacks.noise_to_data.num_samples=0",
        "callbacks.progress.line_every=-1", "+callbacks.throughput.warmup=-1", "callbacks.game_watch.window=0",
        "callbacks.last.every_images=0", "training.gradient_clip=-1", "training.accumulate=-1",
        "schedule.warmup_steps=-3", "model.networks.hidden=[-4]", "model.latent_dim=-1",
        "model.objective.free_bits=-1", "distribution.num_components=0",
    ],
)  # fmt: skip
def test_a_count_is_positive(genlab: Genlab, override: str) -> None:
    key = override.lstrip("+").partition("=")[0].rpartition(".")[2]
    line = refused(genlab, override, "callbacks=default")
    assert key in line or "negative dimension" in line or "batch" in line or "num_test" in override
