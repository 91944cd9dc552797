"""What a user's source gives is checked, whatever kind of data it is: a fault is one line, never a wrong result."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genlab.data.examples import Examples
from genlab.data.images import ImageDataModule
from genlab.data.points import PointDataModule
from genlab.data.text import TextDataModule
from genlab.data.tokenizers import Bytes
from genlab.errors import InputError
from support.command import Genlab

GREY = torch.randint(0, 256, (60, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
UNIT = GREY / 255
CLASSES = torch.arange(60) % 3


class Given:
    """A source that gives what it was given."""

    def __init__(self, splits: Any) -> None:
        self.splits = splits

    def load(self) -> Any:
        return self.splits


def images(splits: Any, **options: Any) -> ImageDataModule:
    data = ImageDataModule(Given(splits), "mine", (1, 4, 4), batch_size=10, **options)
    data.setup()
    return data


def of(stored: Any, labels: Any = CLASSES) -> dict[str, Any]:
    return {"train": Examples(stored, labels)}


@pytest.mark.parametrize(
    ("splits", "line"),
    [
        (of(UNIT), r"train images are float32 from 0.* uint8 grey levels from 0 to 255 are expected: store \(255 \* x"),
        (of(2 * UNIT.double() - 1), r"float64 from -1 to .* store \(255 \* \(x \+ 1\) / 2\)\.round"),
        (of(UNIT.half() * 255), r"float16 from 0 to 255, .* store x\.round\(\)\.to\(torch\.uint8\)"),
        (of(GREY.to(torch.int16) - 10), "int16 from -10 to .*scale them to that range"),
        (of(GREY.long()), r"int64 from 0 to .*: store x\.to\(torch\.uint8\)"),
        (of(GREY > 100), r"bool from 0 to 1, .* store \(255 \* x\)\.to\(torch\.uint8\)"),
        (of(torch.where(GREY == 7, math.nan, UNIT)), "float32 and not all finite numbers"),
        (of(UNIT + 0j), "complex64, and uint8"),
        (of(GREY, CLASSES[:45]), "train has 60 examples and 45 labels"),
        (of(GREY[:45], CLASSES), "train has 45 examples and 60 labels"),
        (of(GREY, CLASSES - 1), "train has the class -1; classes are numbered from 0"),
        (of(GREY, CLASSES.float()), r"train has labels \[60\] of float32; give an int64 class"),
        (of(GREY, CLASSES.int()), r"train has labels \[60\] of int32"),
        (of(GREY, torch.eye(60).long()), r"train has labels \[60, 60\] of int64"),
        (of(GREY, None), "train has labels of NoneType"),
        (of(GREY.numpy()), "train has images of numpy.ndarray; give a tensor"),
        (of(GREY[:0], CLASSES[:0]), "train has no examples"),
        ({**of(GREY), "val": Examples(GREY[:0], CLASSES[:0])}, "val has no examples"),
        ({**of(GREY), "test": Examples(UNIT, CLASSES)}, "test images are float32"),
        ({**of(GREY), "test": Examples(GREY, CLASSES - 2)}, "test has the class -2"),
        ({**of(GREY), "valid": Examples(GREY, CLASSES)}, "gives the split 'valid'; splits are named train, val, test"),
        ({"train": (GREY, CLASSES)}, "train is tuple; give genlab.data.examples.Examples"),
        ({"test": Examples(GREY, CLASSES)}, r"its source gives the splits test; load\(\) must give a dict with"),
        ((GREY, CLASSES), "its source gives tuple"),
        (None, "its source gives NoneType"),
        ({"train": Examples(None, CLASSES)}, "train has neither images and read"),
        ({"train": Examples(GREY, CLASSES, names=60 * ["a"])}, "60 examples and 1 different names"),
    ],
)  # fmt: skip
def test_what_a_source_must_not_give_is_named(splits: Any, line: str) -> None:
    with pytest.raises(InputError, match=f"^dataset mine: .*{line}") as error:
        images(splits)
    assert "\n" not in str(error.value)


def test_a_grey_level_above_the_stated_is_found_wherever_it_is() -> None:
    stored = GREY.clone() // 16
    stored[59, 0, 3, 3] = 16
    many = stored.repeat(20, 1, 1, 1)  # more than are read of data on disk
    for splits in (of(stored), of(many, CLASSES.repeat(20))):
        with pytest.raises(InputError, match="16 levels are stated, train has the value 16"):
            images(splits, levels=16)
    assert images(of(stored), levels=17).splits


class Read:
    """A reader of images that are not in memory."""

    def __init__(self, image: Callable[[int], Any]) -> None:
        self.image = image

    def __call__(self, index: int) -> Any:
        return self.image(index)

    def fingerprint(self, indices: Any) -> str:
        return str([*indices])


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (lambda i: UNIT[i % 60], "train images are float32"),
        (lambda i: GREY[i % 60].numpy(), "train cannot be read as tensors of one shape and type"),
        (lambda i: GREY[i % 60][:, : 3 + i % 2], "train cannot be read as tensors of one shape and type"),
        (lambda i: GREY[i % 60][:, :3], r"shape=\[1, 4, 4\] is stated, the train images are \[1, 3, 4\]"),
    ],
)
def test_images_that_are_read_one_by_one_are_probed(image: Callable[[int], Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        images({"train": Examples(None, torch.zeros(1000, dtype=torch.long), Read(image))})


def test_the_last_of_many_images_on_disk_is_probed_too() -> None:
    def image(index: int) -> Tensor:
        return GREY[0] if index < 900 else UNIT[0]

    with pytest.raises(InputError, match="float32"):
        images({"train": Examples(None, torch.zeros(1000, dtype=torch.long), Read(image)), "val": of(GREY)["train"]})


def test_images_that_are_nearly_black_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    images(of(GREY // 128))
    assert "the highest of 256 grey levels in train is 1: all images are nearly black" in capsys.readouterr().err
    images(of(GREY // 128), levels=2, kind="binary")
    images(of(GREY))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("stored", "labels", "line"),
    [
        (torch.randn(60, 2).double(), CLASSES, "train points are float64, and float32 is expected"),
        (torch.ones(60, 2).long(), CLASSES, "train points are int64, and float32 is expected"),
        (torch.randn(60, 2).index_fill(0, torch.tensor([59]), math.nan), CLASSES, "some train points are not numbers"),
        (torch.randn(60, 2), CLASSES + 1, "num_classes=3 is stated, train has the class 3"),
        (torch.randn(60, 2), CLASSES[:30], "train has 60 examples and 30 labels"),
    ],
)
def test_points_are_checked_alike(stored: Tensor, labels: Tensor, line: str) -> None:
    with pytest.raises(InputError, match=line):
        PointDataModule(Given(of(stored, labels)), "mine", (2,), num_classes=3, batch_size=10).setup()


def test_texts_and_tokens_are_checked_alike() -> None:
    class Read:
        def __init__(self, text: Any) -> None:
            self.text = text

        def read(self) -> Any:
            return self.text

    class High(Bytes):
        def encode(self, text: str) -> np.ndarray:
            return super().encode(text).astype(np.int16) + 200

    class Floats(Bytes):
        def encode(self, text: str) -> np.ndarray:
            return super().encode(text).astype(np.float32)

    for text, tokenizer, line in (
        (b"of bytes" * 90, Bytes(), r"its source's read\(\) gives bytes; give a str"),
        ("of text " * 90, High(), "its tokenizer gives tokens from 232 to 320, and its vocabulary has 256"),
        ("of text " * 90, Floats(), r"encode\(\) must give an array \(T,\) of integers"),
    ):
        with pytest.raises(InputError, match=line):
            TextDataModule(Read(text), "mine", (4,), tokenizer, batch_size=2).setup()


@pytest.mark.parametrize("options", [{"val_size": -1}, {"val_size": math.nan}, {"test_size": 1.5}, {"val_size": 0}])
def test_a_size_that_holds_out_nothing_is_named(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="leaves no data"):
        images(of(GREY), **options)
    with pytest.raises(InputError, match="leaves no data"):
        images({"train": Examples(GREY, CLASSES, names=[str(i) for i in range(60)])}, **options)


def test_the_command_refuses_a_users_floats_in_one_line(
    genlab: Genlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "floats_of_mine.py").write_text(
        "import torch\nfrom genlab.data.examples import Examples\n\n\nclass Floats:\n    def load(self):\n"
        "        return {'train': Examples(torch.rand(400, 1, 8, 8), torch.zeros(400, dtype=torch.long))}\n"
    )
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "floats.yaml").write_text(
        "_target_: genlab.data.images.ImageDataModule\nname: floats\nshape: [1, 8, 8]\nkind: image\nlevels: 256\n"
        "num_classes: null\nseed: ${seed}\nsource: {_target_: floats_of_mine.Floats}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    result = genlab("train", "--config-dir", tmp_path / "conf", "model=vae/vae", "dataset=floats")
    assert result.code == 2
    assert result.err.startswith("genlab: error: dataset floats: train images are float32 from ")
    assert result.err.count("\n") == 1
    assert not result.outputs.exists()
