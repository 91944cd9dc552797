"""The words of Hydra and OmegaConf that our one-line errors are read from: another version's may differ."""

from pathlib import Path

import pytest
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from genlab.composition.building import build, plain
from genlab.composition.configs import composed
from genlab.composition.explaining import explain
from genlab.errors import InputError

THERE = "model.latent_dim: there is such a key already; leave out the + before it"


@pytest.mark.parametrize(
    ("override", "words", "line"),
    [
        ("modle=vae/vae", "Could not override 'modle'.", "modle: there is no such key; did you mean model?"),
        ("model.dim=3", "Could not override 'model.dim'.", "model.dim: there is no such key"),
        ("gan/loss=hinge", "Could not override 'gan/loss'. No match", "gan/loss: nothing that was chosen (model,"),
        ("+model.latent_dim=3", "Could not append to config. An item is already at 'model.latent_dim'", THERE),
        ("~modle", "Could not delete from config. 'modle' does not exist", "modle: there is no such key or group; did"),
        (
            "~seed=3",
            "Could not delete from config. The value of 'seed' is 0 and not 3.",
            "Could not delete from config.",
        ),
        ("~gan/loss=hinge", "Could not delete 'gan/loss=hinge'. No match", "gan/loss: nothing that was chosen"),
    ],
)
def test_an_override_that_hydra_cannot_apply(override: str, words: str, line: str) -> None:
    with pytest.raises(HydraException) as error:
        composed("train", [override])
    assert words in " ".join(str(error.value).split())
    said = explain(error.value)
    assert said is not None
    assert said.startswith(line)
    assert "\n" not in said


def test_an_override_in_a_file_that_hydra_cannot_apply(tmp_path: Path) -> None:
    from hydra import compose, initialize_config_dir

    (tmp_path / "main.yaml").write_text("defaults:\n  - a: one\n  - override loss: hinge\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one.yaml").write_text("x: 1\n")
    with pytest.raises(HydraException) as error, initialize_config_dir(str(tmp_path), version_base="1.3"):
        compose("main")
    assert str(error.value).startswith("In 'main': Could not override 'loss'")
    said = "In 'main': the group loss is now gan/loss, in a defaults list as on the command line"
    assert explain(error.value) == said


def test_a_group_that_is_null() -> None:
    with pytest.raises(ValueError, match=r"^Config group override must be") as error:
        composed("train", ["metrics/modes=null"])
    assert "a group cannot be null" in str(explain(error.value))


@pytest.mark.parametrize(
    ("override", "file", "line"),
    [
        ("model=flow/nvp", "model/flow/nvp", "model=flow/nvp: no such option; did you mean flow/real_nvp"),
        ("metrics/modes=mnst", "metrics/modes/mnst", "metrics/modes=mnst: no such option; did you mean mnist?"),
        ("gan/augment=adda", "gan/augment/adda", "gan/augment=adda: no such option; did you mean ada?"),
    ],
)
def test_an_option_that_is_missing(override: str, file: str, line: str) -> None:
    with pytest.raises(MissingConfigException) as error:
        composed("train", ["model=gan/dcgan", override] if "gan" in override else [override])
    assert error.value.missing_cfg_file == file
    assert str(explain(error.value)).startswith(line)


def test_an_override_that_hydra_cannot_read() -> None:
    with pytest.raises(OverrideParseException) as error:
        composed("train", ["seed=[1"])
    assert str(explain(error.value)).startswith("seed=[1: cannot be read as an override; ")


def test_an_interpolation_of_what_was_not_given() -> None:
    cfg = OmegaConf.create({"a": {"b": "???"}, "c": "${a.b}"})
    with pytest.raises(InterpolationToMissingValueError) as error:
        _ = cfg.c
    assert explain(error.value) == "no value for a.b (give it as a.b=...)"


def test_an_interpolation_whose_resolver_refuses() -> None:
    cfg = composed("train", ["dataset=latent_codes", "dataset.run=/none"])
    with pytest.raises(OmegaConfBaseException, match="InputError raised while resolving interpolation: ") as error:
        plain(cfg)
    assert explain(error.value) == "dataset.run=/none is no finished run: there is no /none/summary.json"


def test_an_object_inside_another_that_cannot_be_built() -> None:
    flow = "genlab.models.flow"
    dequantization = {"_target_": f"{flow}.variational_dequantization.VariationalDequantization", "shape": [5]}
    node = {"_target_": f"{flow}.nice.NICE", "shape": [1, 4, 4], "levels": 2, "dequantization": dequantization}
    with pytest.raises(InstantiationException, match=r"full_key: dequantization\b"):
        instantiate(node)
    with pytest.raises(InputError, match=r"^model\.dequantization: "):
        build(node, "model")
