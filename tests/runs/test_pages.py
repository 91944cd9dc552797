"""Generated blocks of pages: what they are made of, and that no page differs from it."""

import csv
import json
import re
import runpy
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from genlab.commands.reproduce import generators
from genlab.composition.configs import composed
from genlab.errors import InputError
from genlab.metrics.published import fingerprint
from genlab.reproduction.importing import import_record
from genlab.reproduction.pages import blocks, pages, with_blocks, without_blocks, write_blocks
from genlab.reproduction.recipes import Recipe, named, recipes
from genlab.reproduction.records import records_of
from genlab.reproduction.tables import table
from genlab.runs.folder import RunFolder
from genlab.runs.moved import current
from support.command import Genlab
from support.paths import ROOT

# The blocks of every page in their order: one that is deleted is missed.
SPEED = [
    "machine",
    "pairs",
    "sampling",
    "start",
    "jobs",
    "figures",
    "peers",
    "stubs",
    "stubs_slurm",
    "changes",
    "changes_bf16",
    "costs",
    "tuning",
]
BLOCKS = {
    "README.md": [
        "runs: benchmarks/quickstart | parameters, bits_per_dim, fid",
        "results: uci_* static_* exact_* shakespeare_gpt",
    ],
    "docs/autoregressive.md": [
        "results: uci_* static_fvsbn static_nade static_made* static_pixel_cnn "
        "mnist_fvsbn mnist_nade mnist_made mnist_image_gpt"
    ],
    "docs/diffusion.md": [
        "results: exact_ring2d_flow_matching exact_grid2d_flow_matching "
        "cifar10_ddpm cifar10_cfm cifar10_edm cifar10_mean_flow",
        "runs: results/mnist/flow_matching results/mnist/dcgan | parameters, images_seen, fid, modes, kl_to_uniform",
        "quality: quality.png results/mnist/flow_matching results/mnist/edm results/mnist/ddpm results/mnist/mean_flow",
    ],
    "docs/flows.md": [
        "results: exact_ring2d exact_grid2d exact_checkerboard cifar10_real_nvp cifar10_glow cifar10_flow_plus_plus",
        "runs: results/mnist/real_nvp | parameters, images_seen, bits_per_dim, fid",
    ],
    "docs/gans.md": [
        "results: cifar10_*gan*",
        "runs: benchmarks/points/ring2d | modes, high_quality, kl_to_uniform | toy/gan",
        "runs: benchmarks/points/grid2d | modes, high_quality, kl_to_uniform | toy/gan",
        "results: pacgan_*",
        "runs: results/mnist/dcgan | parameters, images_seen, fid, modes, kl_to_uniform",
    ],
    "docs/metrics.md": [
        "reactions: benchmarks/metrics_on_mnist.json",
        "reactions: benchmarks/metrics_on_cifar10.json",
    ],
    "docs/performance.md": [f"speed: {part}" for part in SPEED],
    "docs/transformers.md": ["results: shakespeare_gpt"],
    "docs/vaes.md": ["results: static_vae static_iwae* exact_linear_vae mnist_vae mnist_iwae* cifar10_vd_vae"],
}
# Recipes whose reference: block was changed after a run had begun, which every table says: the reason for each.
CHANGED: Mapping[str, str] = {}


def differences(root: Path, only: str | None = None) -> list[str]:
    """In what the pages of a checkout, or one of them, differ from what they are made of."""
    found = []
    made = generators(root, root / "results")
    for path in pages(root):
        name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        if only not in (None, name):
            continue
        if [f"{kind}: {arguments}" for kind, arguments in blocks(text)] != BLOCKS.get(name, []):
            found.append(f"{name}: other blocks than are listed")
        if with_blocks(text, made) != text:
            found.append(f"{name}: run genlab reproduce --table")
    return found


def changed(found: Mapping[str, Recipe], results: Path) -> set[str]:
    """The recipes with a record whose ``reference:`` block is not today's."""
    return {
        name
        for name, recipe in found.items()
        for record in records_of(name, results)
        if (record.sha256 or fingerprint(record.content["reference"])) != recipe.sha256
    }


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the pages and of what they are made of."""
    for name in ("docs", "results", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.png", "__pycache__"))
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def test_the_weight_decay_of_a_recorded_recipe_is_the_best_of_those_that_were_tried() -> None:
    with (ROOT / "results/uci_weight_decay.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    tried = {name: [row for row in rows if row["recipe"] == name] for name in {row["recipe"] for row in rows}}
    recorded = {name for name in recipes() if name.startswith("uci_") and records_of(name, ROOT / "results")}
    for name in recorded:
        found = tried[name]
        assert len(found) > 1
        best = min(found, key=lambda row: float(row["val_bits_per_dim"]))
        config = composed("train", [f"experiment=paper/{name}"])
        assert config.training.optimizer.weight_decay == float(best["weight_decay"]), name
        for setting in best["settings"].split():
            key, _, value = setting.partition("=")
            assert str(OmegaConf.select(config, key)).lower() == value, name


def test_the_pages_are_made_of_what_is_kept() -> None:
    assert differences(ROOT) == []


def edited(old: str, new: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return edit


def without_line(word: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        (line,) = [line for line in text.splitlines(keepends=True) if word in line]
        return text.replace(line, "")

    return edit


@pytest.mark.parametrize(
    ("page", "edit"),
    [
        ("docs/gans.md", edited("7.200 ± 0.374", "7.900 ± 0.374")),  # of runs
        ("docs/gans.md", without_line("| toy/sn_hinge | 0-4 | **25")),
        ("docs/gans.md", edited("19 ± 0.71", "18 ± 0.71")),  # of records
        ("docs/gans.md", edited("truncated 25 %", "reproduced")),
        ("docs/gans.md", without_line("`paper/pacgan_grid_gan` | modes")),
        ("docs/performance.md", edited("2.17", "3.17")),
        ("docs/performance.md", edited(" with files changed since, which no commit holds", "")),
        ("docs/metrics.md", edited("0.2774", "0.1774")),
        ("docs/metrics.md", without_line("blurred by 2 pixels |")),
        ("README.md", edited("470,850", "470,851")),
    ],
)
def test_a_figure_or_a_row_that_is_changed_by_hand_is_found(copy: Path, page: str, edit: Callable[[str], str]) -> None:
    path = copy / page
    path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert differences(copy, page) == [f"{page}: run genlab reproduce --table"]
    made = with_blocks(path.read_text(encoding="utf-8"), generators(copy, copy / "results"))
    assert made == (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", sorted(BLOCKS))
def test_a_block_that_is_deleted_is_found(copy: Path, page: str) -> None:
    path = copy / page
    path.write_text(without_blocks(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert differences(copy, page) == [f"{page}: other blocks than are listed"]


def test_a_run_or_a_record_that_is_gone_or_changed_is_found(copy: Path) -> None:
    record = copy / "results/pacgan_ring_gan/0.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    content["figures"]["modes"]["value"] = 8.0
    record.write_text(json.dumps(content), encoding="utf-8")
    assert differences(copy, "docs/gans.md") == ["docs/gans.md: run genlab reproduce --table"]
    shutil.copy(ROOT / record.relative_to(copy), record)
    assert differences(copy, "docs/gans.md") == []
    shutil.rmtree(copy / "benchmarks/points/ring2d/gan-3")
    assert differences(copy, "docs/gans.md") == ["docs/gans.md: run genlab reproduce --table"]


@pytest.mark.parametrize(
    ("gone", "line"),
    [
        ("benchmarks/points/ring2d", "there is no .*benchmarks/points/ring2d"),
        ("benchmarks/results.json", "speed: there is no .*results.json"),
        ("benchmarks/metrics_on_mnist.json", "reactions: there is no .*metrics_on_mnist.json"),
    ],
)
def test_what_a_block_is_made_of_and_is_gone_is_one_line(copy: Path, gone: str, line: str) -> None:
    path = copy / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match=line) as error:
        write_blocks(copy, generators(copy, copy / "results"))
    assert "\n" not in str(error.value)
    assert ".md: " in str(error.value)  # names the page


# -- the reference: blocks ---------------------------------------------------------------------------------------------


def test_no_reference_was_changed_after_a_result_without_saying_so() -> None:
    assert changed(recipes(), ROOT / "results") == set(CHANGED)
    assert all(len(reason) > 20 for reason in CHANGED.values())


def test_a_tolerance_that_is_changed_after_a_result_is_found(tmp_path: Path) -> None:
    recipe = recipes()["exact_ring2d"]
    tolerance = {"nll": {**recipe.block["tolerance"]["nll"], "value": 0.5}}
    looser = Recipe(recipe.name, recipe.model, recipe.dataset, {**recipe.block, "tolerance": tolerance})
    content = {
        "seed": 0,
        "reference_sha256": recipe.sha256,
        "reference": recipe.block,
        "figures": {"nll": {"value": -4.2, "protocol": {}}},
        "training": {"images_seen": 10, "ended": True, "wall_seconds": 3.0},
    }
    path = tmp_path / "exact_ring2d/0.json"
    path.parent.mkdir()
    for later in (False, True):  # also if the block was written after the result
        path.write_text(json.dumps({**content, "reference_sha256": None if later else recipe.sha256}))
        assert changed({recipe.name: recipe}, tmp_path) == set()
        assert changed({recipe.name: looser}, tmp_path) == {"exact_ring2d"}
        note = "reference written after the result" if later else "reference changed after the result"
        assert note in table([looser], tmp_path)
        assert (note in table([recipe], tmp_path)) is later


# -- what blocks are ---------------------------------------------------------------------------------------------------


def test_blocks_that_are_not_whole_or_of_no_kind_are_refused() -> None:
    page = "a\n<!-- runs: x | fid -->\nold\n<!-- /runs -->\nb\n<!-- speed: y -->\nold\n<!-- /speed -->\n"
    made = {"runs": lambda arguments: f"runs of {arguments}", "speed": lambda arguments: f"speed of {arguments}"}
    filled = with_blocks(page, made)
    assert "runs of x | fid" in filled
    assert "speed of y" in filled
    assert "old" not in filled
    assert with_blocks(filled, made) == filled
    assert blocks(page) == [("runs", "x | fid"), ("speed", "y")]
    assert without_blocks(page).split() == ["a", "b"]
    with pytest.raises(InputError, match="has no end"):
        blocks(page.replace("<!-- /runs -->\n", ""))
    with pytest.raises(InputError, match="has no end"):
        blocks("<!-- runs: a -->\n<!-- runs: b -->\n<!-- /runs -->\n")
    with pytest.raises(InputError, match="speed is no kind of block; there are runs"):
        with_blocks(page, {"runs": made["runs"]})


def modes_of(folder: Path) -> float:
    return float(json.loads((folder / "summary.json").read_text())["metrics"]["test/modes"]["value"])


def test_a_block_of_runs_may_stand_on_folders_of_results(tmp_path: Path) -> None:
    runs_table = generators(tmp_path, tmp_path / "results")["runs"]
    for seed in range(3):
        shutil.copytree(ROOT / f"benchmarks/points/ring2d/gan-{seed}", tmp_path / f"results/mnist/dcgan/{seed}")
        (tmp_path / f"results/mnist/dcgan/{seed}.json").write_text("{}")
    values = [
        json.loads((tmp_path / f"results/mnist/dcgan/{seed}/summary.json").read_text())["metrics"]["test/modes"][
            "value"
        ]
        for seed in range(3)
    ]
    made = runs_table("results/mnist/dcgan | parameters, modes")
    titles, _, row, *_ = made.splitlines()
    assert titles.startswith("| run | seeds | parameters | modes |")
    assert "0-2" in row
    assert "890,003" in row
    assert f"{sum(values) / 3:.3f} ± " in row
    assert "the standard error of the mean over seeds" in made
    for arguments, line in (
        ("results/mnist/dcgan | fid", "no run has the figure fid"),
        ("results/mnist/dcgan", "no columns are named"),
        ("results/mnist/sngan | modes", "there is no .*sngan"),
    ):
        with pytest.raises(InputError, match=line):
            runs_table(arguments)
    (tmp_path / "results/mnist/dcgan/1/status.json").write_text('{"status": "interrupted"}')
    with pytest.raises(InputError, match="is interrupted, not done"):
        runs_table("results/mnist/dcgan | modes")


def test_kept_runs_name_no_path_of_a_machine_and_hold_no_weights() -> None:
    folders = [path.parent for path in (ROOT / "benchmarks").rglob("config.yaml")]
    assert len(folders) >= 55
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {"config.yaml", "status.json", "summary.json"}
        text = "".join(path.read_text(encoding="utf-8") for path in folder.iterdir())
        assert not re.search(r"""[\s"'=](/[a-z]+/|[A-Z]:\\)""", text), folder


def test_a_run_is_kept_without_its_weights_and_its_machine(tmp_path: Path) -> None:
    keep = runpy.run_path(str(ROOT / "benchmarks/keep_run.py"))["keep"]
    run, target = tmp_path / "outputs/points/1", tmp_path / "kept/gan-0"
    shutil.copytree(ROOT / "benchmarks/points/ring2d/gan-0", run)
    (run / "checkpoints").mkdir()
    (run / "checkpoints/last.ckpt").write_bytes(b"weights")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["paths"] |= {"data_dir": "/home/me/data", "output_dir": str(tmp_path / "outputs")}
    config["run_dir"] = str(run)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, "pid": 17, "host": "mine"}))
    keep(RunFolder(run), target)
    assert {path.name for path in target.iterdir()} == {"config.yaml", "status.json", "summary.json"}
    kept = yaml.safe_load((target / "config.yaml").read_text())
    assert kept["run_dir"] == "."
    assert kept["paths"]["data_dir"] == "data"
    assert json.loads((target / "status.json").read_text()) == status
    assert modes_of(target) == modes_of(run)
    (run / "status.json").write_text('{"status": "running"}')
    with pytest.raises(InputError, match="only a finished run is kept"):
        keep(RunFolder(run), target)


def test_a_block_of_speed_names_its_parts_and_its_damage(tmp_path: Path) -> None:
    speed_table = generators(ROOT, ROOT / "results")["speed"]
    with pytest.raises(InputError, match="there is no part rumours; there are machine, pairs"):
        speed_table("rumours")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/results.json").write_text('{"pairs": []}')
    with pytest.raises(InputError, match=r"results.json is damaged"):
        generators(tmp_path, tmp_path)["speed"]("pairs")


def test_the_command_rewrites_the_pages(genlab: Genlab, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy / "docs/gans.md"
    path.write_text(path.read_text(encoding="utf-8").replace("7.200 ± 0.374", "8"), encoding="utf-8")
    monkeypatch.chdir(copy)
    # The picture of a block is not there yet: pictures are not copied.
    assert genlab("reproduce", "--table").out.split() == ["docs/gans.md", "docs/quality.png"]
    assert "nothing has changed" in genlab("reproduce", "--table").out
    assert path.read_text(encoding="utf-8") == (ROOT / "docs/gans.md").read_text(encoding="utf-8")


# -- records of earlier runs -------------------------------------------------------------------------------------------


def test_an_imported_record_says_that_its_reference_came_later(tmp_path: Path) -> None:
    (recipe,) = named(["pacgan_ring_gan"])
    folder = tmp_path / "run"
    shutil.copytree(ROOT / "benchmarks/points/ring2d/gan-1", folder)
    record = import_record(recipe, RunFolder(folder), tmp_path)
    assert record.sha256 is None
    assert record.content["clean"] is True
    assert record.figures["modes"].value == modes_of(folder)
    assert record.trained(recipe.published) == 0.25
    assert records_of(recipe.name, tmp_path) == [record]

    summary = json.loads((folder / "summary.json").read_text())
    summary["environment"]["commit"] += "+"
    (folder / "summary.json").write_text(json.dumps(summary))
    record = import_record(recipe, RunFolder(folder), tmp_path)
    assert record.content["clean"] is False
    assert record.content["commits"] == [summary["environment"]["commit"]]

    (other,) = named(["pacgan_grid_gan"])
    with pytest.raises(InputError, match="has the dataset ring2d, and pacgan_grid_gan has grid2d"):
        import_record(other, RunFolder(folder), tmp_path)
    del summary["metrics"]["test/modes"]
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match="has no figure modes"):
        import_record(recipe, RunFolder(folder), tmp_path)
    (folder / "status.json").write_text('{"status": "failed"}')
    with pytest.raises(InputError, match="only a finished run gives a record"):
        import_record(recipe, RunFolder(folder), tmp_path)


def test_imported_records_are_those_of_the_kept_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("pacgan_ring_gan", "pacgan_ring_pacgan2", "pacgan_grid_gan", "pacgan_grid_pacgan2"):
        (recipe,) = named([name])
        records = records_of(name, ROOT / "results")
        assert [record.seed for record in records] == [0, 1, 2, 3, 4]
        for record in records:
            folder = RunFolder(record.content["imported_from"])
            # A record holds the config with the keys of its time; later keys say what was done then.
            expected = {**record.content, "config": current(record.content["config"])}
            assert import_record(recipe, folder, tmp_path).content == expected
            pack = yaml.safe_load((folder.path / "config.yaml").read_text())["model"]["pack"]
            assert pack == (2 if "pacgan2" in name else 1)
