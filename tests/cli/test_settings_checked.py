"""Settings that are checked before a run has a folder: one line, exit code 2, and in a sweep a row for the job."""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genlab.composition.building import coerced
from genlab.composition.configs import composed
from genlab.composition.explaining import explain
from genlab.errors import InputError
from genlab.loggers.wandb import check_environment
from genlab.training.optimizers import check_settings
from genlab.training.trainer_settings import check_trainer, check_validation
from support.command import Genlab

FAST = "debug=fast_dev_run"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["seed=-1"], "seed=-1: input should be greater than or equal to 0"),
        (["seed=4294967296"], "seed=4294967296: input should be less than or equal to 4294967295"),
        (["training.optimizer.lr=fast"], "training.optimizer.lr='fast': input should be a valid number"),
        (["training.optimizer.lr=-1"], "training.optimizer.lr=-1.0: Invalid learning rate: -1.0"),
        (["training.optimizer.lr=nan"], "training.optimizer.lr=nan: expected a finite number"),
        (
            ["model=gan/dcgan", "training.discriminator_optimizer.betas=[2,3]"],
            "training.discriminator_optimizer.betas=",
        ),
        (["trainer.precision=fp16"], "trainer.precision=fp16: expected 32-true, bf16-mixed or 16-mixed"),
        (["trainer.precision=16-true"], "trainer.precision=16-true: expected 32-true, bf16-mixed or 16-mixed"),
        (["trainer.precision=64-true"], "trainer.precision=64-true: expected 32-true, bf16-mixed or 16-mixed"),
        (["trainer.max_time=5minutes"], "trainer.max_time=5minutes: expected days:hours:minutes:seconds"),
        (["trainer=gpu"], "trainer.accelerator=gpu: no GPU was found"),
        (["trainer=mps"], "trainer.accelerator=mps: no GPU of Apple (MPS) was found; leave trainer=... out"),
        (["trainer.accelerator=tpu"], "trainer.accelerator=tpu: no tpu was found"),
        (["trainer.accelerator=quantum"], "trainer.accelerator=quantum: expected auto, cpu"),
        (["trainer.devices=many"], "trainer.devices=many: expected a number of devices"),
        (["trainer.devices=0"], "trainer.devices=0: expected a number of devices"),
        (["+trainer.limit_val_batches=2.5"], "trainer: You have passed invalid value 2.5 for limit_val_batches"),
        (["+trainer.val_check_interval=1000"], "trainer.val_check_interval=1000: an epoch has 21 batches"),
        (["trainer.log_every_n_steps=-1"], "trainer.log_every_n_steps=-1: at least 1, or 0"),
        (["metrics.num_samples=1000000000"], "metrics.num_samples=1000000000: too many samples"),
        (["metrics.seed=36893488147419103232"], "metrics.seed=36893488147419103232: expected a number of 64 bits"),
        (["model=transformer/gpt"], "model=transformer/gpt models tokens data, and dataset=digits is image"),
        (["model=vae/vae", "loss=hinge"], "gan/loss=... is for model=gan/..."),
        (["model=vae/vae", "flow/coupling=affine"], "flow/coupling=... is for model=flow/"),
        (["objective.beta=4"], "objective.beta: there is no such key; did you mean model.objective.beta?"),
        (["lr=4"], "lr: there is no such key; did you mean training.optimizer.lr?"),
        (["seed=1,2,"], "seed=1,2,: cannot be read as an override; a value is missing after the last comma"),
        (["seed"], "seed: cannot be read as an override; expected key=value, or group=option"),
        (["tags=a(b"], "if the value is text, quote it for Hydra too: \"tags='a(b'\""),
        (["model.latent_dim=${nothing.here}"], "model.latent_dim is to be nothing.here, and no such key was chosen"),
    ],
)
def test_train_refuses_in_a_line(genlab: Genlab, overrides: list[str], line: str) -> None:
    result = genlab("train", *overrides)
    assert result.code == 2
    assert line in result.err
    assert [text for text in result.err.splitlines() if text.startswith("genlab: error:")] == result.err.splitlines()[
        -1:
    ]
    assert not list(result.outputs.rglob("status.json"))


def test_in_a_sweep_a_refused_job_has_its_row(genlab: Genlab) -> None:
    result = genlab("train", "-m", "seed=-1,4294967296", "trainer.max_time=5minutes")
    assert result.code == 2
    assert "2 failed" in result.err
    reasons = [json.loads(path.read_text(encoding="utf-8"))["reason"] for path in result.outputs.rglob("status.json")]
    assert sorted(reason.partition(":")[0] for reason in reasons) == ["seed=-1", "seed=4294967296"]
    # An error of the config's composition is a row as well, and the other jobs run.
    result = genlab("train", "-m", "model.latent_dim=${nothing.here},${seed}", "trainer.max_time=5minutes")
    assert "2 failed" in result.err


def test_logging_every_0_steps_logs_at_the_ends_of_epochs_only(genlab: Genlab) -> None:
    given = ["trainer.max_epochs=2", "metrics.num_samples=20", "callbacks=minimal", "dataset.train_size=256"]
    for name, model in (("a", "vae/vae"), ("b", "gan/mlp")):
        result = genlab("train", f"model={model}", *given, f"name={name}", "trainer.log_every_n_steps=0")
        assert result.code == 0, result.err
        (metrics,) = result.outputs.glob(f"{name}/*/metrics.csv")
        header, *rows = metrics.read_text(encoding="utf-8").splitlines()
        loss = header.split(",").index(next(name for name in header.split(",") if name.endswith("loss")))
        assert sum(row.split(",")[loss] != "" for row in rows) == 2


def test_interrupting_does_not_depend_on_the_logging_interval(genlab: Genlab, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    from genlab.data.batches import Batches

    iterate = Batches.__iter__

    def stops(self: Batches) -> object:
        for i, batch in enumerate(iterate(self)):
            if i == 3 and self.shuffle:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(Batches, "__iter__", stops)
    result = genlab("train", "trainer.log_every_n_steps=0", "trainer.max_epochs=2", "model.latent_dim=2")
    assert result.code == 128 + signal.SIGTERM
    assert json.loads((result.run / "status.json").read_text(encoding="utf-8"))["status"] == "interrupted"


def test_validation_by_steps() -> None:
    def check(batches: int, **given: object) -> None:
        check_validation({"trainer": given}, batches)

    check(10, val_check_interval=10)
    check(10, val_check_interval=0.5)
    check(10, val_check_interval=100, check_val_every_n_epoch=None)
    check(10, val_check_interval=100, fast_dev_run=True)
    for given in ({"val_check_interval": 11}, {"val_check_interval": 6, "limit_train_batches": 0.5}):
        with pytest.raises(InputError, match=r"trainer\.val_check_interval"):
            check(10, **given)


def test_settings_that_are_right_pass() -> None:
    target = {"_target_": "pytorch_lightning.Trainer"}
    for given in (
        {"precision": "bf16-mixed", "max_time": "00:00:05:00"},
        {"precision": 32, "max_time": {"minutes": 5}},
        {"precision": "16-mixed", "devices": 2, "strategy": "ddp", "accelerator": "cpu"},
        {"log_every_n_steps": 0, "max_time": None},
    ):
        check_trainer({"trainer": {**target, **given}})


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from genlab.training import trainer_settings

    monkeypatch.setattr(trainer_settings, "_is_there", lambda kind: kind == "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for devices in (2, [0, 1]):
        with pytest.raises(InputError, match=r"trainer.devices=.*: this machine has 1 GPU$"):
            check_trainer({"trainer": {"accelerator": "gpu", "devices": devices}})


def test_settings_of_optimizers() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2, 2))]

    def fault(make: Callable[..., torch.optim.Optimizer], **settings: object) -> str:
        with pytest.raises(InputError) as error:
            check_settings(functools.partial(make, **settings), weights, "training.optimizer")
        return str(error.value)

    check_settings(functools.partial(torch.optim.Adam, lr=0.0), weights, "training.optimizer")
    check_settings(functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True), weights, "")
    assert fault(torch.optim.SGD, lr=0.1, momentum=-1.0).startswith(
        "training.optimizer.momentum=-1.0: Invalid momentum"
    )
    assert fault(torch.optim.Adam, lr=1e-3, eps=-1.0).startswith("training.optimizer.eps=-1.0: ")
    assert fault(torch.optim.Adam, lr=float("inf")).startswith("training.optimizer.lr=inf: expected a finite number")
    # A setting that is wrong only beside another one.
    assert fault(torch.optim.SGD, lr=0.1, nesterov=True).startswith("training.optimizer")
    assert torch.equal(weights[0], torch.zeros(2, 2))


def test_a_class_is_no_type_that_a_config_could_give() -> None:
    with pytest.raises(InputError, match=r"^lr='fast': input should be a valid number[^;]*$"):
        coerced("fast", float | torch.Tensor, "lr")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"name: x\n\ttags: [a]\n", "line 2, column 1: found character '\\t' that cannot start any token: indent with"),
        (b"name: [a\n", "line 2, column 1: "),
        (b"name: caf\xe9\n", "is not in UTF-8 (byte 10): convert it"),
    ],
)
def test_files_of_the_user_that_are_no_yaml(genlab: Genlab, tmp_path: Path, content: bytes, line: str) -> None:
    (tmp_path / "conf/experiment").mkdir(parents=True)
    file = tmp_path / "conf/experiment/mine.yaml"
    file.write_bytes(content)
    result = genlab("train", "--config-dir", tmp_path / "conf", "experiment=mine")
    assert result.code == 2
    assert line in result.err
    assert str(file) in result.err
    assert len(result.err.splitlines()) == 1


def test_control_characters_of_a_value_do_not_reach_the_terminal() -> None:
    assert explain(InputError("name=\x1b[31mred\n: wrong")) == "name=\\x1b[31mred\\n: wrong"
    with pytest.raises(Exception, match="modle") as error:
        composed("train", ["modle=\n"])
    assert str(explain(error.value)).isprintable()


def test_variables_of_wandb(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], genlab: Genlab
) -> None:
    for name, value, line in (
        ("WANDB_MODE", "bogus", "WANDB_MODE=bogus: input should be 'online', 'offline'"),
        ("WANDB_INIT_TIMEOUT", "soon", "WANDB_INIT_TIMEOUT=soon: input should be a valid number"),
    ):
        with monkeypatch.context() as apart:
            apart.setenv(name, value)
            with pytest.raises(InputError) as error:
                check_environment()
            assert str(error.value).startswith(line)
            result = genlab("train", FAST)
            assert (result.code, line in result.err) == (2, True)
            assert not list(result.outputs.rglob("status.json"))
    # A malformed key is as good as none, and is not printed.
    monkeypatch.setenv("WANDB_API_KEY", " secret ")
    check_environment()
    assert "WANDB_API_KEY" not in os.environ
    said = capsys.readouterr().err
    assert "so the run is offline" in said
    assert "secret" not in said
