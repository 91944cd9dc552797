"""``genlab evaluate``: known answers on folders of PNGs, Inception as torch-fidelity's command has it, several runs."""

import json
import math
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from support.command import Genlab, Result
from support.image_folders import write_images
from support.paths import CONF

PIXELS = "metrics.features=pixels"


def write(folder: Path, images: np.ndarray | Tensor) -> str:
    """Grey images ``(N, H, W)`` as PNGs."""
    folder.mkdir()
    for i, image in enumerate(np.asarray(images)):
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{i:05d}.png")
    return str(folder)


def figures(result: Result) -> dict[str, dict]:  # type: ignore[type-arg]
    assert result.code == 0, result.err
    newest = max(result.outputs.rglob("evaluation.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(newest.read_text())["metrics"]


def normal_images(num: int, mean: Iterable[float], std: Iterable[float], seed: int) -> np.ndarray:
    """2x2 grey images whose pixels are independent Gaussians, in grey levels."""
    noise = np.random.default_rng(seed).normal(size=(num, 4))
    return (np.array(list(mean)) + noise * np.array(list(std))).round().clip(0, 255).reshape(-1, 2, 2)


def test_fid_of_two_gaussians_on_pngs(genlab: Genlab, tmp_path: Path) -> None:
    a = (100, 110, 120, 130), (20, 10, 30, 20)
    b = (120, 110, 100, 130), (10, 20, 30, 25)
    fake, real = write(tmp_path / "a", normal_images(4000, *a, 0)), write(tmp_path / "b", normal_images(4000, *b, 1))
    found = figures(genlab("evaluate", f"real={real}", f"fake={fake}", PIXELS))
    # |m_a - m_b|^2 + sum (s_a - s_b)^2 in units of the whole range of grey.
    expected = (20**2 + 20**2 + 10**2 + 10**2 + 5**2) / 255**2
    assert found["fid"]["value"] == pytest.approx(expected, rel=0.05)
    assert found["fid"]["protocol"]["features"] == "pixels"
    assert found["fid"]["protocol"]["resize"] == "none"


def test_a_set_with_itself_on_pngs(genlab: Genlab, tmp_path: Path) -> None:
    folder = write(tmp_path / "a", normal_images(300, (100,) * 4, (30,) * 4, 0))
    found = figures(genlab("evaluate", f"real={folder}", f"fake={folder}", PIXELS))
    assert found["fid"]["value"] < 1e-6
    assert [found[name]["value"] for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert "warning" in found["kid"]  # 300 images do not make subsets of 1000


def test_two_halves_a_disjoint_set_and_a_subset_on_pngs(genlab: Genlab, tmp_path: Path) -> None:
    whole = normal_images(1200, (80,) * 4, (15,) * 4, 0)
    write(tmp_path / "a", whole[:600])
    write(tmp_path / "b", whole[600:])
    write(tmp_path / "far", whole[:600] + 120)

    def of(real: str, fake: str) -> dict[str, float]:
        result = genlab("evaluate", f"real={tmp_path / real}", f"fake={tmp_path / fake}", PIXELS)
        return {name: result["value"] for name, result in figures(result).items()}

    halves, disjoint = of("a", "b"), of("a", "far")
    assert abs(halves["kid"]) < 0.01 * disjoint["kid"]
    assert [disjoint[name] for name in ("precision", "recall", "density", "coverage")] == [0, 0, 0, 0]
    # Half of the real images are near, half of them far from every sample.
    write(tmp_path / "both", np.concatenate([whole[:300], whole[300:600] + 120]))
    subset = of("both", "a")
    assert subset["recall"] == pytest.approx(0.5, abs=0.05)
    assert subset["coverage"] == pytest.approx(0.5, abs=0.05)
    assert subset["precision"] > 0.9


def test_inception_score_of_four_sure_classes_on_pngs_with_a_module_of_ones_own(genlab: Genlab, tmp_path: Path) -> None:
    images = np.zeros((2000, 4, 4))
    images[np.arange(2000), :, np.arange(2000) % 4] = 255
    folder = write(tmp_path / "stripes", images)
    features = "metrics.features={_target_: support.stripes.Stripes}"
    result = genlab("evaluate", f"real={folder}", f"fake={folder}", features.replace(" ", ""))
    assert figures(result)["inception_score"]["value"] == pytest.approx(4, rel=0.02)
    assert "support.stripes.Stripes features" in result.out


def test_modes_of_a_folder_of_digits(genlab: Genlab, tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    folder = write(tmp_path / "digits", data.images[data.target < 7] / 16 * 255)
    found = figures(
        genlab("evaluate", f"real={folder}", f"fake={folder}", "metrics.features=digits", "metrics.modes=digits")
    )
    assert found["modes"]["value"] == 7
    assert found["kl_to_uniform"]["value"] == pytest.approx(math.log(10 / 7), abs=0.01)


def test_what_cannot_be_evaluated_is_one_line(genlab: Genlab, tmp_path: Path) -> None:
    folder = write(tmp_path / "a", np.zeros((6, 2, 2)))
    for arguments, line in (
        ((f"real={folder}",), "give runs"),
        ((f"real={folder}", f"fake={folder}", "run=x"), "give runs"),
        ((f"real={folder}", f"fake={tmp_path / 'none'}"), "there is no folder"),
        ((f"real={folder}", f"fake={folder}", "metrics.features=lenet"), "no such option"),
        ((f"real={folder}", f"fake={folder}", PIXELS, "metrics.num_samples=2"), "more than 5"),
        ((str(CONF / "train.yaml"),), "is not a checkpoint of a run"),
    ):
        result = genlab("evaluate", *arguments)
        assert result.code == 2
        assert result.err.startswith("genlab: error: ")
        assert line in result.err
        assert result.err.count("\n") == 1


# -- Inception against torch-fidelity's own command -------------------------------------------------------------------


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file in the format of torch-fidelity's, with random weights that keep the signal's scale."""
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    class Unloaded(fidelity.FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict: object) -> None:  # type: ignore[override]
            pass

    patch = pytest.MonkeyPatch()
    patch.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
    network = Unloaded("inception", ["2048"])
    patch.undo()
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(network.state_dict(), path)
    return str(path)


@pytest.mark.parametrize("mode", ["RGB", pytest.param("L", marks=pytest.mark.slow)])
def test_inception_gives_what_torch_fidelitys_command_gives(
    genlab: Genlab, tmp_path: Path, inception_weights: str, mode: str
) -> None:
    num = 10  # no fewer than the inception score has splits
    write_images(tmp_path / "fake", num, (32, 32), mode, seed=0)
    write_images(tmp_path / "real", num, (32, 32), mode, seed=1)
    metrics = ("--fid", "--isc", "--kid", "--prc", "--kid-subset-size", str(num), "--json", "--cpu", "--silent")
    expected = json.loads(
        subprocess.run(
            [
                sys.executable, "-m", "torch_fidelity.fidelity", *metrics, "--save-cpu-ram",
                "--feature-extractor", "inception-v3-compat", "--feature-extractor-weights-path", inception_weights,
                "--input1", str(tmp_path / "fake"), "--input2", str(tmp_path / "real"), "--no-datasets-download",
            ],
            capture_output=True, text=True, check=True, env={"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        ).stdout
    )  # fmt: skip
    result = genlab(
        "evaluate", f"real={tmp_path / 'real'}", f"fake={tmp_path / 'fake'}", "metrics.features=inception",
        f"metrics.features.weights={inception_weights}",
    )  # fmt: skip
    found = figures(result)
    for name, key in (
        ("fid", "frechet_inception_distance"),
        ("kid", "kernel_inception_distance_mean"),
        ("inception_score", "inception_score_mean"),
        ("precision", "precision"),
        ("recall", "recall"),
    ):
        assert found[name]["value"] == pytest.approx(expected[key], rel=1e-4, abs=1e-7), name
    assert f"{num} images for 2048 features: the FID is biased upwards" in " ".join(result.out.split())
    assert found["fid"]["protocol"]["channels"] == ("grey repeated to 3" if mode == "L" else "as they are")


# -- runs --------------------------------------------------------------------------------------------------------------

SMALL = (
    "trainer.max_epochs=1",
    "dataset.train_size=128",
    "model.networks.hidden=[16]",
    "metrics.num_samples=40",
    "logger=csv",
)


def test_several_runs_a_checkpoint_and_both_kinds_of_weights(genlab: Genlab) -> None:
    for seed in (1, 2):
        assert genlab("train", *SMALL, f"seed={seed}", "training.ema_decay=0.9").code == 0
    runs = sorted(path.parent for path in genlab("--version").outputs.rglob("config.yaml"))
    options = ("metrics.num_samples=50", "metrics.importance_samples=20", "metrics.num_test=30")
    result = genlab("evaluate", *runs, *options)
    assert result.code == 0, result.err
    for run in runs:
        content = json.loads((run / "evaluation.json").read_text())
        exact = content["metrics"]["test/nll_iw"]
        assert exact["protocol"]["likelihood"] == "importance-weighted bound"
        assert exact["protocol"]["draws"] == 20
        assert exact["standard_error"] > 0
        assert exact["value"] < content["metrics"]["test/nll"]["value"]  # a tighter bound
        assert (run / "samples" / "neighbours.png").is_file()
        assert str(run) in result.out

    # A file names its run; both kinds of weights stay side by side, and nothing measured before is lost.
    result = genlab("evaluate", runs[0] / "checkpoints" / "last.ckpt", "weights=both", *options)
    assert result.code == 0, result.err
    evaluations = json.loads((runs[0] / "evaluation.json").read_text())["evaluations"]
    settings = [one["settings"] for one in evaluations]
    assert [(one["checkpoint"], one["weights"]) for one in settings] == [
        ("best", "ema"),
        ("last", "raw"),
        ("last", "ema"),
    ]
    values = {one["metrics"]["test/fid"]["value"] for one in evaluations}
    assert len(values) == 3 or len(values) == 2  # best may be last

    # Any other setting is another evaluation; the same settings replace what they measured before.
    again = ("metrics.num_samples=50", "metrics.importance_samples=30", "metrics.num_test=30")
    for arguments, num in ((again, 4), (options, 4), ((*options, "~metrics.measures.kid"), 5)):
        assert genlab("evaluate", runs[0], *arguments).code == 0
        content = json.loads((runs[0] / "evaluation.json").read_text())
        assert len(content["evaluations"]) == num
        assert content["evaluations"][-1]["metrics"] == content["metrics"]
    draws = [one["metrics"]["test/nll_iw"]["protocol"]["draws"] for one in content["evaluations"]]
    assert sorted(draws) == [20, 20, 20, 20, 30]
    assert ["test/kid" in one["metrics"] for one in content["evaluations"]] == [True] * 4 + [False]

    # One that cannot be measured does not keep the others from it.
    (runs[0] / "checkpoints" / "best.ckpt").unlink()
    (runs[1] / "evaluation.json").unlink()
    result = genlab("evaluate", *runs, *options)
    assert result.code == 2
    assert "1 of 2 could not be measured" in result.err
    assert (runs[1] / "evaluation.json").is_file()


def test_another_extractor_than_the_runs(genlab: Genlab) -> None:
    run = genlab("train", *SMALL).run
    assert genlab("evaluate", run, "metrics.features=pixels", "metrics.num_samples=40").code == 0
    protocol = json.loads((run / "evaluation.json").read_text())["metrics"]["test/fid"]["protocol"]
    assert protocol["features"] == "pixels"
    trained = json.loads((run / "summary.json").read_text())["metrics"]["test/fid"]["protocol"]
    assert trained["features"] == "digits"
    # The two are not ranked against each other.
    other = genlab("train", *SMALL, "seed=3").outputs
    assert "measured under unlike protocols" in genlab("compare", other).out


def test_evaluations_that_an_earlier_version_kept_stay(genlab: Genlab) -> None:
    """They were kept under a label in words."""
    run = genlab("train", *SMALL).run
    label = "best, raw, digits, train, 50 samples, seed 0"
    metrics = {"test/fid": {"value": 3.0, "protocol": {"num_samples": 50}}}
    (run / "evaluation.json").write_text(json.dumps({"metrics": metrics, "evaluations": {label: metrics}}))
    assert genlab("evaluate", run, "metrics.num_samples=40", "metrics.importance_samples=null").code == 0
    first, second = json.loads((run / "evaluation.json").read_text())["evaluations"]
    assert first == {"settings": {"label": label}, "metrics": metrics}
    assert second["settings"]["num_samples"] == 40


def test_raw_weights_do_not_stand_unmarked_beside_averaged_ones(genlab: Genlab) -> None:
    for seed in (1, 2):
        assert genlab("train", *SMALL, f"seed={seed}", "training.ema_decay=0.9", f"model.latent_dim={seed}").code == 0
    outputs = genlab("--version").outputs
    run = min(path.parent for path in outputs.rglob("config.yaml"))
    options = ("metrics.num_samples=40", "metrics.importance_samples=null")
    assert genlab("evaluate", run, "weights=raw", *options).code == 0
    shown = genlab("compare", outputs, "format=json", "figures=[fid]")
    assert shown.code == 0, shown.err
    content = json.loads(shown.out)
    columns = [column for column in content["columns"] if column["kind"] == "figure"]
    assert [column["protocol"]["weights"] for column in columns] == ["ema", "raw"]
    assert sum("test/fid[1]" in row["cells"] for row in content["rows"]) == 2
    assert sum("test/fid[2]" in row["cells"] for row in content["rows"]) == 1
    (note,) = content["notes"]
    assert note.endswith("[1] weights=ema; [2] weights=raw")
