"""Make small run folders to keep as fixtures.

    PYTHONPATH=<checkout>/src python tests/golden/make_fixtures.py OUTPUT

The folders in ``tests/fixtures/runs_before_the_move`` were made by this with the last version before the folders of the
package were rearranged; tests prove that later versions open, sample, evaluate, resume and compare them. Making them
again with a later version would make that proof empty: a new version adds a folder beside theirs.

Of each run are kept its config, status, summary, metrics and checkpoints, and four samples of seed 3 in
``samples/expected.npy`` or ``.txt``; pictures are left out. The data are the embedded digits, points, and ``text.txt``.
Paths in the configs are relative to the folder that holds the fixtures; a test makes them absolute in its copy.
"""

import argparse
import json
import os
import shutil
import tempfile
from importlib import import_module
from pathlib import Path

from record import LIBRARIES, genlab

FIXTURES = Path(__file__).parents[1] / "fixtures" / "runs_before_the_move"
TEXT = "text.txt"

COMMON = (
    "trainer=cpu", "trainer.precision=32-true", "trainer.compile=false", "trainer.max_epochs=1", "logger=csv",
    "callbacks=minimal", "metrics.num_samples=32", "metrics.num_test=32", "metrics.num_shown=4",
    "callbacks.sample_metrics.num_samples=null",
)  # fmt: skip
LAST = ("callbacks.best=null",)  # no best.ckpt
DIGITS = ("dataset=digits", "dataset.train_size=128", "dataset.batch_size=32", "dataset.val_size=40")
POINTS = ("dataset.train_size=500", "dataset.batch_size=100")

RUNS: dict[str, tuple[str, ...]] = {
    "gan-dcgan": (
        "model=gan/dcgan", *DIGITS, "model.channels=2", "model.latent_dim=4", "training.ema_decay=0.9", *LAST,
    ),
    "gan-mlp": (
        "model=gan/mlp", "dataset=ring2d", *POINTS, "model.width=8", "model.num_layers=2",
        "model.discriminator_width=4", "model.discriminator_layers=2", *LAST,
    ),
    "vae-vae": (
        "model=vae/vae", *DIGITS, "model.num_classes=10", "model.networks.hidden=[8]", "model.latent_dim=2",
        "distribution=logistic", "training.ema_decay=0.9", *LAST,
    ),
    "vae-hierarchical_vae": (
        "model=vae/hierarchical_vae", *DIGITS, "model.channels=4", "model.latent_channels=1", "model.num_blocks=1",
        "model.latent_side=2", "training.optimizer._target_=torch.optim.SGD", *LAST,  # Adam would keep 700 tensors
    ),
    "vae-vq_vae": (
        "model=vae/vq_vae", *DIGITS, "model.channels=4", "model.num_codes=8", "model.code_dim=2",
        "model.num_blocks=1", "model.num_halvings=1", *LAST,
    ),
    "flow-real_nvp": (
        "model=flow/real_nvp", *DIGITS, "model.width=2", "model.num_couplings=2", "model.num_scales=1",
        "model.num_blocks=1", *LAST,
    ),
    "flow-glow": (
        "model=flow/glow", *DIGITS, "model.width=2", "model.num_steps=1", "model.num_scales=1", *LAST,
    ),
    "flow-nsf": (
        "model=flow/nsf", "dataset=two_moons", *POINTS, "model.num_classes=2", "model.flow.transforms=1",
        "model.flow.hidden_features=[8]",
    ),
    "autoregressive-pixel_cnn": (
        "model=autoregressive/pixel_cnn", *DIGITS, "model.num_classes=10", "model.channels=2", "model.num_layers=1",
    ),
    "autoregressive-row_lstm": (
        "model=autoregressive/row_lstm", *DIGITS, "model.channels=2", "model.num_layers=1", *LAST,
    ),
    "autoregressive-pixel_cnn-codes": (
        "model=autoregressive/pixel_cnn", "dataset=latent_codes", f"dataset.run={FIXTURES.name}/vae-vq_vae",
        "dataset.train_size=128", "dataset.batch_size=32", "model.channels=2", "model.num_layers=1", *LAST,
    ),
    "transformer-gpt": (
        "model=transformer/gpt", "dataset=text", f"dataset.source.path={FIXTURES.name}/{TEXT}",
        "tokenizer=characters", "dataset.shape=[16]", "dataset.batch_size=8", "model.width=8", "model.num_heads=2",
        "model.num_layers=1", *LAST,
    ),
    "transformer-maskgit": (
        "model=transformer/maskgit", *DIGITS, "model.num_classes=10", "model.width=8", "model.num_heads=2",
        "model.num_layers=1", "model.num_steps=4", "model.choice_temperature=2.0", *LAST,
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, help=f"folder for the run folders, such as {FIXTURES.name}")
    output = parser.parse_args().output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    for library in LIBRARIES:
        import_module(library)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        os.environ.pop("GENLAB_CACHE", None)  # configs keep its place, which shall be the default one
        os.environ.pop("GENLAB_DATA", None)
        os.environ |= {"HOME": scratch, "GENLAB_OUTPUTS": "outputs"}
        runs = Path(FIXTURES.name)
        runs.mkdir()
        shutil.copy(FIXTURES / TEXT, runs / TEXT)
        for name, options in RUNS.items():
            log = Path(scratch, "log.txt")
            genlab("train", *COMMON, *options, log=log)
            (config,) = Path("outputs").rglob("config.yaml")
            folder = config.parent.rename(runs / name)
            strip(folder, Path(scratch))
            expected = folder / "samples" / ("expected.txt" if name == "transformer-gpt" else "expected.png")
            genlab("sample", f"run={folder}", "n=4", "seed=3", f"output={expected}", log=log)
            expected.with_suffix(".png").unlink(missing_ok=True)
            shutil.copytree(folder, output / name, dirs_exist_ok=True)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            print(f"{name}: {size / 1000:.0f} kB", flush=True)


def strip(folder: Path, scratch: Path) -> None:
    """Take samples and the older checkpoint out of a run folder, and where it was made out of its files."""
    for path in (*folder.glob("samples/*"), folder / "checkpoints" / "previous.ckpt"):
        path.unlink(missing_ok=True)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(f"{scratch}/", ""))
    status = json.loads((folder / "status.json").read_text())
    for key in ("pid", "host"):
        status.pop(key, None)
    (folder / "status.json").write_text(json.dumps(status, indent=2) + "\n")


if __name__ == "__main__":
    main()
