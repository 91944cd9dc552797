"""Flows of points and tables: their mathematics, the data they learn, and what a run of theirs reports."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from genlab.composition.building import build
from genlab.data.plane import Checkerboard, Pinwheel, TwoMoons
from genlab.data.points import DrawnPoints, GaussianMixture
from genlab.data.table import Table, TableDataModule
from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.metrics.drawing import density_in_plane
from genlab.models.flow.zuko_flow import ZukoFlow
from genlab.pictures.scatter import scatter
from support.command import Genlab
from support.paths import CONF
from support.point_flows import FLOWS, NUMERICAL, data_like, make


def log_density_on_grid(model: ZukoFlow, y: int | None = None, side: int = 160) -> tuple[Tensor, float]:
    """Log-densities in the middles of ``side * side`` cells around the data, and a cell's area."""
    half = 8 * model.std.double()
    centres = (torch.arange(side) + 0.5) / side * 2 - 1
    cells = model.mean.double() + half * torch.cartesian_prod(centres, centres)
    with torch.no_grad():
        classes = None if y is None else torch.full((len(cells),), y)
        log_density = model.log_prob(cells.to(model.mean.dtype), classes)
    return log_density.double(), float((2 * half / side).prod())


# -- their mathematics -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("name", FLOWS)
def test_decoding_undoes_encoding(name: str, double: bool) -> None:
    tolerance = NUMERICAL.get(name, 1e-9 if double else 1e-4)
    for dims, num_classes in ((1, None), (4, 3)):
        model = make(name, dims, num_classes, double)
        x, y = data_like(dims, 16)
        x = x.to(model.mean.dtype)
        classes = y if num_classes else None
        with torch.no_grad():
            z = model.encode(x, classes)
            torch.testing.assert_close(model.decode(z, classes), x, atol=tolerance, rtol=0)
        assert z.dtype == (torch.float64 if double else torch.float32)
        assert model.diagnose(x, classes)["inverse_error"] < 2 * tolerance


@pytest.mark.parametrize("name", FLOWS)
def test_the_log_determinant_is_that_of_the_jacobian(name: str) -> None:
    model = make(name, dims=3, double=True, noise=0.02)
    x = data_like(3, 2)[0].double()
    log_det = model.transform(x)[1]
    for point, value in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda p: model.encode(p[None])[0], point)
        expected = torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(value.detach(), expected, atol=1e-3 if name in NUMERICAL else 1e-9, rtol=0)


@pytest.mark.parametrize("name", FLOWS)
def test_densities_integrate_to_1_and_samples_agree_with_them(name: str) -> None:
    model = make(name, noise=0.01)
    log_density, area = log_density_on_grid(model, side=60 if name == "cnf" else 160)
    density = log_density.exp()
    assert abs(float(density.sum()) * area - 1) < 1e-3
    # The mean of log p(x) over samples is what the integral of p log p says.
    expected = float((density * log_density).sum()) * area
    x = model.sample(1000, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        scores = model.log_prob(x).double()
    assert abs(float(scores.mean()) - expected) < 4 * float(scores.std()) / math.sqrt(len(scores))


@pytest.mark.parametrize("name", ["nsf", "iaf"])
def test_each_class_has_a_density_of_its_own(name: str) -> None:
    model = make(name, num_classes=3, noise=0.01)
    grids = [log_density_on_grid(model, y) for y in range(3)]
    for log_density, area in grids:
        assert abs(float(log_density.exp().sum()) * area - 1) < 1e-3
    assert not torch.allclose(grids[0][0], grids[1][0])
    mixture = density_in_plane(model)
    assert mixture is not None
    x = data_like(2, 5)[0]
    of_classes = torch.stack([model.log_prob(x, torch.full((5,), k)) for k in range(3)])
    torch.testing.assert_close(mixture(x), of_classes.exp().mean(0).log())
    with pytest.raises(InputError, match="class-conditional"):
        model.log_prob(x)


@pytest.mark.parametrize("name", FLOWS)
def test_a_sample_depends_on_its_generator_alone(name: str) -> None:
    model = make(name, num_classes=3)
    together = model.sample(5, generator=generators(3, range(5)))
    alone = model.sample(1, generator=generators(3, [4]))
    # The steps of a continuous flow's solver are those that the whole batch needs.
    torch.testing.assert_close(together[4:], alone, atol=NUMERICAL.get(name, 1e-4), rtol=1e-5)
    assert together.dtype == torch.float32
    cold = model.sample(200, torch.zeros(200, dtype=torch.long), sampling=model.Sampling(temperature=0.01))
    assert (cold.std(0) < 0.1 * model.std).all()


@pytest.mark.parametrize("name", FLOWS)
def test_scores_are_the_same_in_every_mode(name: str) -> None:
    """Also where Lightning forbids gradients altogether, and under autocast."""
    model = make(name)
    x = data_like(2, 8)[0]
    with torch.no_grad():
        expected = model.log_prob(x)
    with torch.inference_mode():
        inside = model.log_prob(x.clone())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.log_prob(x)
    for scores in (inside, rounded, model.train().log_prob(x)):
        torch.testing.assert_close(scores.detach(), expected, atol=1e-5, rtol=1e-5)


def test_standardisation_is_counted() -> None:
    """Of a flow that does nothing, the density is the Gaussian of the data's mean and standard deviation."""
    model = make("maf", double=True)
    for parameter in model.parameters():
        parameter.data.zero_()
    x = data_like(2, 50)[0].double()
    expected = torch.distributions.Normal(model.mean, model.std).log_prob(x).sum(1)
    torch.testing.assert_close(model.log_prob(x), expected)
    constant = torch.tensor([[1.0, 2.0], [1.0, 3.0]])
    model.initialize(constant)
    assert model.std[0] == 1


def test_only_flows_of_points_to_a_standard_normal_are_taken() -> None:
    import zuko

    with pytest.raises(InputError, match=r"models points \(D,\)"):
        ZukoFlow((1, 8, 8), zuko.flows.MAF)
    for other in (zuko.flows.NCSF, zuko.flows.GMM):
        with pytest.raises(InputError, match="standard normal"):
            ZukoFlow((2,), other)


# -- points of the plane -----------------------------------------------------------------------------------------------

SIZES = {"num_train": 3000, "num_val": 500, "num_test": 500}


@pytest.mark.parametrize("source", [TwoMoons, Pinwheel, Checkerboard])
def test_splits_of_the_plane_are_apart_and_the_same_every_time(source: type[DrawnPoints]) -> None:
    first, again = source(**SIZES).load(), source(**SIZES).load()
    assert [len(first[split]) for split in ("train", "val", "test")] == [3000, 500, 500]
    points = torch.cat([examples.images for examples in first.values()])  # type: ignore[misc]
    assert len(points.unique(dim=0)) == 4000
    for split, examples in first.items():
        assert examples.fingerprint() == again[split].fingerprint()
        assert examples.fingerprint() != source(**SIZES, seed=1).load()[split].fingerprint()
    with pytest.raises(InputError, match="num_val=0"):
        source(**{**SIZES, "num_val": 0})


def test_points_lie_where_their_classes_say() -> None:
    moons = TwoMoons(std=0.01, **SIZES).load()["train"]
    assert moons.images is not None
    upper, lower = (moons.images[moons.labels == k] for k in range(2))
    assert abs(float(upper.norm(dim=1).mean()) - 1) < 0.01
    assert abs(float((lower - torch.tensor([1.0, 0.5])).norm(dim=1).mean()) - 1) < 0.01
    board = Checkerboard(**SIZES).load()["train"]
    assert board.images is not None
    square = (board.images / 2).floor()
    assert (square.sum(1) % 2 == 0).all()
    assert board.images.abs().max() <= 4
    assert board.labels.bincount().min() > 300
    assert len(torch.cat([square, board.labels[:, None]], 1).unique(dim=0)) == 8
    wheel = Pinwheel(tangential_std=1e-4, **SIZES).load()["train"]
    assert wheel.images is not None
    angle = torch.atan2(*wheel.images.T.flip(0)) - 0.25 * wheel.images.norm(dim=1).exp()
    ahead = (angle - 2 * math.pi * wheel.labels / 5 + math.pi) % (2 * math.pi) - math.pi
    assert (ahead.abs() < 0.01).float().mean() > 0.99
    for wrong in (lambda: TwoMoons(std=0), lambda: Pinwheel(num=0), lambda: Checkerboard(side=3)):
        with pytest.raises(InputError):
            wrong()


def test_points_that_were_fixed_stay_as_they_were() -> None:
    """Runs of other versions are compared on them."""
    ring = GaussianMixture.ring(num_train=3, num_val=1, num_test=1).load()["train"]
    assert ring.labels.tolist() == [2, 6, 5]
    expected = torch.tensor([[-0.0114, 1.0021], [0.0023, -1.0161], [-0.7137, -0.7068]])
    torch.testing.assert_close(ring.images, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["two_moons", "pinwheel", "checkerboard"])
def test_stated_facts_of_the_plane_hold(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"dataset={name}", *(f"+dataset.source.{k}={v}" for k, v in SIZES.items())])
    data = build(OmegaConf.to_container(cfg.dataset, resolve=True), "dataset")
    data.setup()
    assert data.splits["train"].labels.max() + 1 == data.num_classes
    x, _ = next(iter(data.train_dataloader()))
    assert x.shape == (500, 2)


# -- tables ------------------------------------------------------------------------------------------------------------

NAMES = ["height", "body weight", "age"]
ROWS = np.random.default_rng(0).normal([170, 70, 40], [10, 15, 20], (200, 3))


def write_csv(path: Path, rows: Sequence[Sequence[object]], names: Sequence[str] | None, separator: str = ",") -> Path:
    lines = [] if names is None else [separator.join(names)]
    path.write_text("\n".join([*lines, *(separator.join(map(str, row)) for row in rows)]) + "\n")
    return path


def write_parquet(path: Path, rows: np.ndarray) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(dict(zip(NAMES, rows.T, strict=True))), path)
    return path


@pytest.mark.parametrize(
    "kind", ["header.csv", "bare.csv", "a.tsv", "semicolons.csv", "a.txt", "a.npy", "a.npz", "a.parquet"]
)
def test_a_table_is_read_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind.endswith("npy"):
        np.save(path, ROWS)
    elif kind.endswith("npz"):
        np.savez(path, anything=ROWS)
    elif kind.endswith("parquet"):
        write_parquet(path, ROWS)
    elif kind.endswith("txt"):
        np.savetxt(path, ROWS)
    else:
        separator = {"a.tsv": "\t", "semicolons.csv": ";"}.get(kind, ",")
        write_csv(path, ROWS.tolist(), None if kind == "bare.csv" else NAMES, separator)
    read = Table(str(path)).load()["train"].images
    assert read is not None
    np.testing.assert_array_equal(read.numpy(), ROWS)
    named = kind in ("header.csv", "a.tsv", "semicolons.csv", "a.parquet")
    some = Table(str(path), columns=["age", 2] if named else [3, 2]).load()["train"].images
    assert some is not None
    np.testing.assert_array_equal(some.numpy(), ROWS[:, [2, 1]])


def test_a_table_is_split_and_standardised_by_its_training_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)

    def module(**options: object) -> TableDataModule:
        data = TableDataModule(Table(str(tmp_path / "a.npy")), "table", (3,), batch_size=10, **options)
        data.setup()
        return data

    data = module()
    assert {split: len(examples) for split, examples in data.splits.items()} == {"train": 160, "val": 20, "test": 20}
    train, test = data.first("train"), data.first("test")
    torch.testing.assert_close(train.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(train.std(0), torch.ones(3))
    assert not torch.allclose(test.mean(0), torch.zeros(3), atol=1e-3)
    whole = torch.cat([data.first(split) for split in ("train", "val", "test")]).double() * data.std + data.mean
    np.testing.assert_allclose(np.sort(whole.numpy(), 0), np.sort(ROWS, 0), rtol=1e-5)
    assert data.protocol["standardized"] == "by the training rows"
    assert data.protocol["test_sha256"] == module(seed=5).protocol["test_sha256"]
    assert data.protocol["test_sha256"] != module(standardize=False).protocol["test_sha256"]
    assert abs(float(module(standardize=False).first("train")[:, 0].mean()) - 170) < 5


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "has no rows"),
        ("a,b\n", "has no rows"),
        ("a,b\n1,2\n3,\n", "row 2, column b is empty, not a number"),
        ("a,b\n1,2\n3,nan\n", "row 2, column b is nan, not a number"),
        ("1.5,2\n3,inf\n", "row 2, column 2 is inf, not a number"),
        ("a,b\n1,2\n3,4\nmany,4\n", "row 3, column a is many, not a number"),
        ("1,x\n3,4\n", "row 1, column 2 is x, not a number"),
        ("1.5,2\n3,4,5\n", "row 2 has 3 cells, and the table has 2 columns"),
        ("a,b\n\xff", "cannot be read as a table in UTF-8"),
    ],
)
def test_faults_of_a_table_are_named_in_a_line(tmp_path: Path, content: str, line: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=line) as error:
        Table(str(path)).load()
    assert "\n" not in str(error.value)


def test_faults_of_arrays_and_columns_are_named_in_a_line(tmp_path: Path) -> None:
    def fault(name: str, **options: object) -> str:
        with pytest.raises(InputError) as error:
            Table(str(tmp_path / name), **options).load()  # type: ignore[arg-type]
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "there is no file" in fault("none.csv")
    (tmp_path / "a.xlsx").touch()
    assert "is no table: .csv" in fault("a.xlsx")
    np.save(tmp_path / "flat.npy", ROWS[0])
    assert "is an array [3] of float64" in fault("flat.npy")
    np.savez(tmp_path / "two.npz", a=ROWS, b=ROWS)
    assert "has the arrays a, b" in fault("two.npz")
    holes = ROWS.copy()
    holes[7, 1] = np.nan
    np.save(tmp_path / "holes.npy", holes)
    assert "row 8, column 2 is nan" in fault("holes.npy")
    for name in ("bad.npy", "bad.npz", "bad.parquet"):
        (tmp_path / name).write_bytes(b"not this")
        assert "cannot be read as" in fault(name)
    write_csv(tmp_path / "a.csv", ROWS.tolist(), NAMES)
    assert "has no column wage; it has height, body weight, age" in fault("a.csv", columns=["wage"])
    assert "has no column 4" in fault("a.csv", columns=[4])
    holes[7, 1] = 1.0
    holes[:, 2] = 5.0
    np.save(tmp_path / "constant.npy", holes)
    with pytest.raises(InputError, match="column 3 of 3 is the same in every training row"):
        TableDataModule(Table(str(tmp_path / "constant.npy")), "table", (3,), batch_size=10).setup()
    with pytest.raises(InputError, match=r"shape=\[2\] is stated, the train points are \[3\]"):
        TableDataModule(Table(str(tmp_path / "a.csv")), "table", (2,), batch_size=10).setup()


def test_parquet_without_its_library_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"not installed: pip install 'genlab\[parquet\]'"):
        Table(str(tmp_path / "a.parquet")).load()


def test_dates_missing_values_and_text_of_parquet_are_no_numbers(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from datetime import date

    from pyarrow import parquet

    columns = {"a": [1, 2], "b": [1.5, None], "day": [date(2020, 1, 1)] * 2, "word": ["x", "y"], "yes": [True, False]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    read = Table(str(tmp_path / "a.parquet"), ["a", "yes"]).load()["train"].images
    assert read is not None
    assert read.tolist() == [[1, 1], [2, 0]]
    for column, line in (("b", "row 2, column b is"), ("day", "row 1, column day is 2020"), ("word", "word is x")):
        with pytest.raises(InputError, match=line):
            Table(str(tmp_path / "a.parquet"), [column]).load()


# -- runs --------------------------------------------------------------------------------------------------------------

SMALL = ["model.flow.hidden_features=[8]", "trainer.max_epochs=2", "metrics.num_samples=50", "logger=csv"]


def test_a_run_tells_nats_and_shows_the_density(genlab: Genlab) -> None:
    result = genlab("train", "model=flow/nsf", "dataset=ring2d", "dataset.train_size=400", *SMALL)
    assert result.code == 0, result.err
    summary = json.loads((result.run / "summary.json").read_text())
    nll = summary["metrics"]["test/nll"]
    assert nll["unit"] == "nats"
    assert nll["protocol"]["likelihood"] == "exact"
    assert nll["protocol"]["of"] == "density"
    assert not [name for name in summary["metrics"] if "bits_per_dim" in name]
    assert summary["metrics"]["test/inverse_error"]["value"] < 1e-3
    assert "test/modes" in summary["metrics"]
    assert summary["monitor"]["metric"] == "val/nll"
    assert summary["monitor"]["best"] is not None
    header = (result.run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "val/nll", "val/inverse_error"} <= set(header)
    assert "val/bits_per_dim" not in header
    assert (result.run / "samples" / "final.png").is_file()
    assert (result.run / "samples" / "film.gif").is_file()
    compared = genlab("compare", result.run)
    assert "NLL" in compared.out
    sampled = genlab("sample", f"run={result.run}", "n=20")
    assert sampled.code == 0, sampled.err


def test_a_table_is_trained_on(genlab: Genlab, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "people.csv", ROWS.tolist(), NAMES)
    given = ["model=flow/maf", "dataset=table", f"dataset.source.path={path}", "dataset.batch_size=20", *SMALL]
    assert "no value for dataset.shape" in genlab("train", *given).err
    assert "set dataset.shape to that" in genlab("train", *given, "dataset.shape=[2]").err
    result = genlab("train", *given, "dataset.shape=[3]")
    assert result.code == 0, result.err
    protocol = json.loads((result.run / "summary.json").read_text())["metrics"]["test/nll"]["protocol"]
    assert protocol["standardized"] == "by the training rows"
    assert protocol["num"] == 20
    assert np.load(result.run / "samples" / "final.npy").shape[1] == 3
    line = genlab("train", "model=vae/vae", *given[1:4], "dataset.shape=[3]").err
    assert "models binary and image data, and dataset=table is points" in line


def test_a_density_is_drawn_dark_where_it_is_high() -> None:
    """Behind points that are few: a Gaussian around 0, on a plane of 4 by 4."""
    corners = torch.tensor([[-2.0, -2.0], [2.0, 2.0]])
    shown = np.asarray(scatter(corners, corners, density=lambda x: -x.square().sum(1) / 0.2))
    assert shown.shape == (480, 480, 3)
    middle, side = shown[235:240, 255:260].mean(), shown[235:240, 60:65].mean()
    assert middle < side - 50
    plain = np.asarray(scatter(torch.zeros(3, 5), torch.randn(9, 5), density=lambda x: x.sum(1)))
    assert plain.shape == (480, 480, 3)
    assert scatter(torch.randn(5, 1), torch.randn(9, 1)).size == (480, 480)
