"""What stands at the places that the pages name: small runs, pictures, texts and tables.

A page that says ``genlab sample outputs/vae-mnist/20260101-120000-abc123`` or ``genlab.load("RUN")`` is run as it
stands, in a folder where there is a run of that kind at that place.
"""

import random
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from support.command import Genlab
from support.image_folders import write_images
from support.paths import ROOT
from support.picture_archives import write_parquet, write_tar

# The runs, by their kinds: {inputs} is the folder with the inputs, {vq_vae} that of another run.
COMMON = ("dataset.train_size=200", "trainer.max_epochs=1", "metrics.num_samples=60", "metrics.num_test=20",
          "logger=csv", "callbacks=minimal")  # fmt: skip
DIT = ("diffusion/networks=dit", "model.networks.width=8", "model.networks.num_heads=1", "model.networks.num_layers=1")
SMALL_PIXELS = ("model.channels=4", "model.num_layers=2")
RUNS: dict[str, tuple[str, ...]] = {
    "vae": ("model=vae/vae", "model.networks.hidden=[16]", "model.latent_dim=2", "training.ema_decay=0.9",
            "logger=default"),
    "other_vae": ("model=vae/vae", "model.networks.hidden=[16]", "model.latent_dim=3", "seed=1", "logger=default"),
    "dcgan": ("model=gan/dcgan", "model.channels=4", "model.num_classes=10"),
    "real_nvp": ("model=flow/real_nvp", "model.width=4"),
    "pixel_cnn": ("model=autoregressive/pixel_cnn", "dataset=mnist", "metrics.num_samples=20", *SMALL_PIXELS),
    "flow_matching": ("model=diffusion/flow_matching", "model.num_classes=10", "model.num_steps=2", *DIT),
    "edm": ("model=diffusion/edm", "model.num_steps=2", "callbacks/averages=power",
            "callbacks.averages.every_images=100", "diffusion/networks=unet", "model.networks.width=8"),
    "maskgit": ("model=transformer/maskgit", "model.width=8", "model.num_heads=1", "model.num_layers=1"),
    "gpt": ("model=transformer/gpt", "dataset=text", "dataset.source.path={inputs}/book.txt", "model.width=8",
            "model.num_heads=1", "model.num_layers=1"),
    "vq_vae": ("model=vae/vq_vae", "model.channels=8", "model.num_codes=8", "model.num_blocks=1"),
    "vq_gpt": ("model=transformer/vq_gpt", "dataset=latent_codes", "dataset.run={vq_vae}", "model.width=8",
               "model.num_heads=1", "model.num_layers=1"),
    "kl_autoencoder": ("model=vae/kl_autoencoder", "model.networks.channels=8"),
    "latents": ("model=diffusion/flow_matching", "dataset=latents", "dataset.run={kl_autoencoder}",
                "model.num_steps=2"),
    "nsf": ("model=flow/nsf", "dataset=table", "dataset.source.path={inputs}/wine.csv", "dataset.shape=[11]"),
}  # fmt: skip

# Where they stand, by the names of the pages.
PLACES: dict[str, str] = {
    "outputs/vae-mnist/20260101-...": "vae",
    "outputs/vae-mnist/20260101-120000-abc123": "vae",
    "outputs/vae-mnist/...": "vae",
    "outputs/vae-digits/20260101-120000-abc123": "vae",
    "outputs/dcgan-mnist/20260101-120000-abc123": "dcgan",
    "outputs/maskgit-mnist/20260101-120000-abc123": "maskgit",
    "outputs/flow_matching-digits/20260101-120000-abc123": "flow_matching",
    "outputs/gpt-python_docs/20260101-120000-abc123": "gpt",
    "outputs/gpt-text/...": "gpt",
    "outputs/nsf-table/...": "nsf",
    "outputs/photos-stylegan2/20260101-120000-abc123": "dcgan",
    "outputs/mnist/vq_vae/...": "vq_vae",
    "outputs/kl_autoencoder-mnist/...": "kl_autoencoder",
    "outputs/flow_matching-latents/...": "latents",
    "outputs/vq_gpt-latent_codes/...": "vq_gpt",
    "outputs/pixel_cnn-latent_codes/...": "vq_gpt",
    "outputs/quickstart/1": "vae",
    "outputs/sweep/20260101-120000-abc123/0": "vae",
    "outputs/sweep/20261123-172425-6939a23b/0": "vae",
    "outputs/sweep/20261123-172425-6939a23b/1": "other_vae",
    "outputs/sweep/.../0": "nsf",
    "outputs/...": "dcgan",
}
# What RUN is on a page: the first whose text is in the command.
CALLED_RUN: dict[str, tuple[tuple[str, str], ...]] = {
    "autoregressive": (("", "pixel_cnn"),),
    "codes": (("", "vq_vae"),),
    "diffusion": (("weights=", "edm"), ("", "flow_matching")),
    "metrics": (("sampling.", "flow_matching"), ("", "vae")),
    "photos_walk": (("", "vae"),),
    "quickstart": (("", "vae"),),
    "transformers": (("prompt=", "gpt"), ("", "vq_vae")),
    "vaes": (("", "vae"),),
}
# Pages on which the photos have to be of the size of the run's images.
OF_A_RUN: dict[str, tuple[tuple[int, int], str]] = {"autoregressive": ((28, 28), "L")}


class PageRuns:
    """The small runs, each of which is trained once, when a page first needs it.

    Args:
        folder: folder for the runs and the inputs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inputs = folder / "inputs"
        write_inputs(self.inputs)

    def made(self, kind: str, genlab: Genlab) -> Path:
        """Give the folder of the run of a kind."""
        run = self.folder / kind
        if not run.is_dir():
            words = [re.sub(r"\{(\w+)\}", lambda found: str(self._stands(found[1], genlab)), w) for w in RUNS[kind]]
            given = {word.partition("=")[0] for word in words}
            common = [word for word in COMMON if word.partition("=")[0] not in given]
            outputs = self.folder / "outputs" / kind
            result = genlab("train", *common, *words, f"paths.output_dir={outputs}")
            assert result.code == 0, f"{kind}: {result.err}"
            (config,) = outputs.rglob("config.yaml")
            config.parent.rename(run)
        return run

    def _stands(self, name: str, genlab: Genlab) -> Path:
        return self.inputs if name == "inputs" else self.made(name, genlab)

    def place(self, kind: str, place: Path, genlab: Genlab) -> None:
        """Let a copy of the run of a kind stand at a place."""
        run = self.made(kind, genlab)
        if place.exists():
            shutil.rmtree(place)
        shutil.copytree(run, place)

    def furnish(self, folder: Path, page: str, text: str, genlab: Genlab) -> None:
        """Put into a folder what a page takes for granted.

        Args:
            folder: empty folder.
            page: name of the page.
            text: text of the page.
            genlab: the command.
        """
        shutil.copytree(self.inputs, folder, dirs_exist_ok=True)
        if page in OF_A_RUN:
            shutil.rmtree(folder / "photos")
            write_images(folder / "photos", 5, *OF_A_RUN[page])
        for name in ("results", "benchmarks"):
            if f"{name}/" in text or page == "reproducing":
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("mnist", "*.png"))
        for place, kind in PLACES.items():
            if is_named(place, text):
                self.place(kind, folder / place, genlab)

    def call_run(self, folder: Path, page: str, words: str, genlab: Genlab) -> None:
        """Let the run that a command or a snippet calls RUN stand there."""
        if re.search(r"\bRUN\b", words) and page in CALLED_RUN:
            kind = next(kind for text, kind in CALLED_RUN[page] if text in words)
            self.place(kind, folder / "RUN", genlab)


def is_named(place: str, text: str) -> bool:
    """Whether a page names a place, or a folder in which it lies."""
    parts = place.split("/")
    names = ["/".join(parts[:i]) for i in range(2, len(parts) + 1)]
    return any(re.search(rf"{re.escape(name)}(?=[\s\"`)]|/\*)", text) for name in names)


def write_inputs(folder: Path) -> None:
    """Write pictures, texts and tables under the names that the pages give them."""
    for name in ("cat", "dog"):
        write_images(folder / "photos" / name, 40, (72, 64), seed=len(name))
    write_images(folder / "samples", 40, (64, 64))
    pictures = sorted((folder / "photos").rglob("*.png"))
    write_tar(folder / "shards/0.tar", [(f"{i}.png", path.read_bytes()) for i, path in enumerate(pictures)])
    small = folder / "small"
    write_images(small, 60)
    write_parquet(folder / "cifar100/train.parquet", sorted(small.iterdir()), labels=[i % 3 for i in range(60)])
    shutil.rmtree(small)
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(4000)]  # of many byte pairs
    (folder / "book.txt").write_text("It was " + " ".join(words))
    (folder / "texts").mkdir()
    shutil.copy(folder / "book.txt", folder / "texts")
    names = ["alcohol", "pH", "density", *(f"c{i}" for i in range(8))]
    rows = [",".join(f"{draw.gauss(0, 1):.4f}" for _ in names) for _ in range(300)]
    (folder / "wine.csv").write_text("\n".join([",".join(names), *rows]))
    own = folder / "my_conf/model/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\n# A VAE of mine\ndefaults:\n  - vae/vae\n")
    region = np.zeros((28, 28), dtype=np.uint8)
    region[14:] = 255
    Image.fromarray(region).save(folder / "region.png")


# -- settings under which a command of a page takes a second -----------------------------------------------------------

# The keys of a model's size and of its data, and their small values, where a config has them and the page does not.
SMALLEST: dict[str, str] = {
    "model.channels": "8",
    "model.discriminator_channels": "8",
    "model.latent_dim": "4",
    "model.style_dim": "8",
    "model.mapping_layers": "1",
    "model.group_width": "4",
    "model.width": "8",
    "model.num_heads": "1",
    "model.num_layers": "1",
    "model.num_blocks": "1",
    "model.num_steps": "2",
    "model.num_codes": "8",
    "model.networks.hidden": "[16]",
    "model.networks.width": "8",
    "model.networks.channels": "8",
    "model.networks.num_heads": "1",
    "model.networks.num_layers": "1",
    "model.networks.num_blocks": "1",
    "dataset.batch_size": "8",
    "dataset.train_size": "100",
    "dataset.val_size": "20",
    "dataset.of.train_size": "100",
    "dataset.of.val_size": "20",
    "dataset.of.batch_size": "8",
}  # fmt: skip
FEW = ("metrics.num_samples=16", "metrics.num_test=10", "metrics.importance_samples=10", "metrics.num_shown=4")
ENDED = {  # after what the page says, so that it takes the place of that
    "evaluate": ("metrics.num_samples=40", "metrics.num_test=10", "metrics.importance_samples=10"),
    "benchmark": ("benchmark.rounds=1", "benchmark.steps=1", "benchmark.num_samples=2", "dataset.batch_size=4"),
    "reproduce": ("--seeds", "1", "--budget", "3s"),
    "play": ("port=0",),
    "compare": (),
    "prune": ("yes=true",),
}


def smallest(config: DictConfig, words: Iterable[str]) -> list[str]:
    """List the overrides that make a training small.

    Args:
        config: composed config of the training, in which a key of the model's that is null has a meaning of its own.
        words: words of the page, whose keys stay as they are.
    """
    found = []
    for key, value in SMALLEST.items():
        node = OmegaConf.select(config, key.rpartition(".")[0])
        name = key.rpartition(".")[2]
        if not isinstance(node, DictConfig) or name not in node:
            continue
        if name == "train_size" or (node[name] is not None and not isinstance(node[name], float)):  # a share stays
            found.append(f"{key}={value}")
    given = {word.partition("=")[0].lstrip("+") for word in words}
    return [override for override in found if override.partition("=")[0] not in given]
