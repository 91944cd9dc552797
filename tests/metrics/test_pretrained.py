"""Networks of photographs: tiny ones in the published layouts, against implementations of their own."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.metrics.features import FeatureExtractor, extract
from genlab.metrics.pretrained import PretrainedNetwork
from genlab.metrics.vgg16 import VGG16
from genlab.metrics.vision_transformers import CLIP, DINOv2, resized_positions

pytest.importorskip("timm")
WIDTH, HEADS, DEPTH, PATCH = 128, 2, 2, 4


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def photographs(num: int = 5, side: tuple[int, int] = (24, 24), channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (num, channels, *side), generator=torch.Generator().manual_seed(1)).byte()


def random(layout: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in layout.items()}


# -- the published layouts ---------------------------------------------------------------------------------------------


def dinov2(places: int = 9) -> dict[str, Tensor]:
    """As facebookresearch/dinov2 saves it, with an embedding of ``places`` x ``places`` positions."""
    layout: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + places**2, WIDTH),
        "mask_token": (1, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    for i in range(DEPTH):
        layout |= {f"blocks.{i}.norm{n}.{what}": (WIDTH,) for n in (1, 2) for what in ("weight", "bias")}
        layout |= {f"blocks.{i}.ls{n}.gamma": (WIDTH,) for n in (1, 2)}
        for name, (rows, columns) in {
            "attn.qkv": (3 * WIDTH, WIDTH),
            "attn.proj": (WIDTH, WIDTH),
            "mlp.fc1": (4 * WIDTH, WIDTH),
            "mlp.fc2": (WIDTH, 4 * WIDTH),
        }.items():
            layout |= {f"blocks.{i}.{name}.weight": (rows, columns), f"blocks.{i}.{name}.bias": (rows,)}
    return random(layout)


def clip(places: int = 6, features: int = 48) -> dict[str, Tensor]:
    """As openai/CLIP and OpenCLIP save it; of the text tower one matrix, which is not read."""
    layout: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (WIDTH,),
        "visual.positional_embedding": (1 + places**2, WIDTH),
        "visual.proj": (WIDTH, features),
        "visual.conv1.weight": (WIDTH, 3, PATCH, PATCH),
        "token_embedding.weight": (10, 8),
    }
    layout |= {f"visual.ln_{n}.{what}": (WIDTH,) for n in ("pre", "post") for what in ("weight", "bias")}
    for i in range(DEPTH):
        block = f"visual.transformer.resblocks.{i}"
        layout |= {f"{block}.ln_{n}.{what}": (WIDTH,) for n in (1, 2) for what in ("weight", "bias")}
        layout |= {f"{block}.attn.in_proj_weight": (3 * WIDTH, WIDTH), f"{block}.attn.in_proj_bias": (3 * WIDTH,)}
        for name, (rows, columns) in {
            "attn.out_proj": (WIDTH, WIDTH),
            "mlp.c_fc": (4 * WIDTH, WIDTH),
            "mlp.c_proj": (WIDTH, 4 * WIDTH),
        }.items():
            layout |= {f"{block}.{name}.weight": (rows, columns), f"{block}.{name}.bias": (rows,)}
    return random(layout)


def vgg16() -> dict[str, Tensor]:
    """As torchvision saves it, with narrow layers."""
    widths, places = (3, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5, 5), (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    layout: dict[str, tuple[int, ...]] = {}
    for i, place in enumerate(places):
        layout |= {f"features.{place}.weight": (widths[i + 1], widths[i], 3, 3)}
        layout |= {f"features.{place}.bias": (widths[i + 1],)}
    for place, (rows, columns) in {0: (12, 5 * 49), 3: (10, 12), 6: (7, 10)}.items():
        layout |= {f"classifier.{place}.weight": (rows, columns), f"classifier.{place}.bias": (rows,)}
    return random(layout)


# -- the networks, written once more -----------------------------------------------------------------------------------


def attention(x: Tensor, weight: Tensor, bias: Tensor, out_weight: Tensor, out_bias: Tensor) -> Tensor:
    """Attention of ``(N, L, d)`` by PyTorch's own function."""
    x = x.transpose(0, 1)
    empty = {"bias_k": None, "bias_v": None, "add_zero_attn": False, "dropout_p": 0.0}
    found, _ = F.multi_head_attention_forward(
        x, x, x, WIDTH, HEADS, weight, bias, out_proj_weight=out_weight, out_proj_bias=out_bias, training=False, **empty
    )  # fmt: skip
    return found.transpose(0, 1)


def blocks(x: Tensor, w: dict[str, Tensor], name: str, names: dict[str, str], act: Callable, eps: float) -> Tensor:  # type: ignore[type-arg]
    def norm(x: Tensor, which: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), w[f"{which}.weight"], w[f"{which}.bias"], eps)

    for i in range(DEPTH):
        of = {key: f"{name}.{i}.{value}" for key, value in names.items()}
        scales = [w.get(f"{name}.{i}.ls{n}.gamma", torch.ones(WIDTH)) for n in (1, 2)]
        inside = attention(
            norm(x, of["norm1"]), w[of["in_w"]], w[of["in_b"]], w[of["out"] + ".weight"], w[of["out"] + ".bias"]
        )
        x = x + scales[0] * inside
        hidden = act(F.linear(norm(x, of["norm2"]), w[of["up"] + ".weight"], w[of["up"] + ".bias"]))
        x = x + scales[1] * F.linear(hidden, w[of["down"] + ".weight"], w[of["down"] + ".bias"])
    return x


def tokens(x: Tensor, kernel: Tensor, bias: Tensor | None, token: Tensor, positions: Tensor) -> Tensor:
    patches = F.conv2d(x, kernel, bias, stride=PATCH).flatten(2).transpose(1, 2)
    return torch.cat([token.expand(len(x), 1, -1), patches], 1) + positions


def normalized(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return (images.float() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_dinov2_is_the_published_network(tmp_path: Path) -> None:
    w = dinov2()
    torch.save(w, tmp_path / "w.pth")
    extractor = DINOv2(str(tmp_path / "w.pth"), sha256(tmp_path / "w.pth"), name="dinov2_vitl14", side=24)
    images = photographs()
    names = {
        "norm1": "norm1", "norm2": "norm2", "in_w": "attn.qkv.weight", "in_b": "attn.qkv.bias", "out": "attn.proj",
        "up": "mlp.fc1", "down": "mlp.fc2",
    }  # fmt: skip
    # The scale of DINOv2's code for 6 of 9 places, and the result with it.
    grid = w["pos_embed"][:, 1:].reshape(1, 9, 9, WIDTH).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, scale_factor=((6 + 0.1) / 9, (6 + 0.1) / 9), mode="bicubic")
    assert grid.shape[2:] == (6, 6)
    positions = torch.cat([w["pos_embed"][:, :1], grid.permute(0, 2, 3, 1).reshape(1, -1, WIDTH)], 1)
    x = normalized(images, *IMAGENET)
    x = tokens(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], w["cls_token"], positions)
    x = blocks(x, w, "blocks", names, F.gelu, 1e-6)
    expected = F.layer_norm(x, (WIDTH,), w["norm.weight"], w["norm.bias"], 1e-6)[:, 0]
    found = extract(extractor, [images])
    assert found.logits is None
    torch.testing.assert_close(found.features, expected, rtol=1e-3, atol=1e-4)
    assert extractor.protocol((3, 24, 24))["weights_sha256"] == sha256(tmp_path / "w.pth")
    assert torch.equal(resized_positions(w["pos_embed"], 9), w["pos_embed"])
    with pytest.raises(InputError, match="patches of 4 pixels"):
        DINOv2(str(tmp_path / "w.pth"), name="dinov2_vitl14", side=26)


def embedded(w: dict[str, Tensor], images: Tensor) -> Tensor:
    """CLIP's embedding, of length 1."""
    names = {
        "norm1": "ln_1", "norm2": "ln_2", "in_w": "attn.in_proj_weight", "in_b": "attn.in_proj_bias",
        "out": "attn.out_proj", "up": "mlp.c_fc", "down": "mlp.c_proj",
    }  # fmt: skip
    x = normalized(images, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    x = tokens(
        x, w["visual.conv1.weight"], None, w["visual.class_embedding"][None, None], w["visual.positional_embedding"]
    )
    x = F.layer_norm(x, (WIDTH,), w["visual.ln_pre.weight"], w["visual.ln_pre.bias"], 1e-5)
    x = blocks(x, w, "visual.transformer.resblocks", names, lambda v: v * torch.sigmoid(1.702 * v), 1e-5)
    x = F.layer_norm(x, (WIDTH,), w["visual.ln_post.weight"], w["visual.ln_post.bias"], 1e-5)[:, 0]
    x = x @ w["visual.proj"]
    return x / x.norm(dim=1, keepdim=True)


class Holder(nn.Module):
    """A module whose parameters have a file's names, for TorchScript archives."""

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in parameters.items():
            *path, last = name.split(".")
            inner: nn.Module = self
            for part in path:
                if not hasattr(inner, part):
                    inner.add_module(part, nn.Module())
                inner = getattr(inner, part)
            inner.register_parameter(last, nn.Parameter(value))


@pytest.mark.filterwarnings("ignore")
def test_clip_is_the_published_network_from_each_kind_of_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    w = {name: value.half().float() for name, value in clip().items()}  # OpenAI's file holds float16
    half = {name: value.half() for name, value in w.items()}
    torch.save({"state_dict": half}, tmp_path / "w.pt")
    save_file(half, tmp_path / "w.safetensors")
    torch.jit.script(Holder(half)).save(str(tmp_path / "archive.pt"))
    images = photographs()
    for name in ("w.pt", "w.safetensors", "archive.pt"):
        path = tmp_path / name
        extractor = CLIP(str(path), sha256(path))
        assert extractor.side == 24
        found = extract(extractor, [images]).features
        torch.testing.assert_close(found, embedded(w, images), rtol=1e-3, atol=1e-5)
    with pytest.raises(InputError, match="holds code"):
        CLIP(str(tmp_path / "archive.pt"))


def test_clip_crops_what_is_not_square_as_the_code_of_cmmd(tmp_path: Path) -> None:
    w = clip()
    torch.save(w, tmp_path / "w.pt")
    extractor = CLIP(str(tmp_path / "w.pt"))
    images = photographs(side=(41, 60))
    expected = []
    for image in images:
        picture = Image.fromarray(image.permute(1, 2, 0).numpy()).crop((9, 0, 50, 41))
        pixels = np.asarray(picture.resize((24, 24), Image.Resampling.BICUBIC)).copy()
        expected.append(torch.from_numpy(pixels).permute(2, 0, 1))
    assert (extractor.resized(images) - torch.stack(expected).float()).abs().max() <= 1  # Pillow computes in integers
    torch.testing.assert_close(
        extract(extractor, [images]).features, embedded(w, torch.stack(expected)), atol=5e-3, rtol=0
    )
    assert extractor.preprocessing((3, 41, 60))["resize"] == (
        "cropped at the centre, Pillow's bicubic to 24x24, antialiased"
    )
    assert extractor.preprocessing((3, 24, 60))["resize"] == "cropped at the centre"
    assert extractor.preprocessing((1, 24, 24)) == {"channels": "grey repeated to 3", "resize": "none"}


def test_vgg16_is_that_of_torch_fidelity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision
    from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16
    from torchvision.models.vgg import VGG, make_layers

    def narrow() -> nn.Module:
        layers = make_layers([2, 2, "M", 3, 3, "M", 4, 4, 4, "M", 5, 5, 5, "M", 5, 5, 5, "M"])
        network = VGG(nn.Identity(), init_weights=False)
        network.features = layers
        network.classifier = nn.Sequential(
            nn.Linear(5 * 49, 12), nn.ReLU(True), nn.Dropout(), nn.Linear(12, 10), nn.ReLU(True), nn.Dropout(),
            nn.Linear(10, 7),
        )  # fmt: skip
        return network

    torch.save(vgg16(), tmp_path / "w.pth")
    monkeypatch.setattr(torchvision.models, "vgg16", narrow)
    theirs = FeatureExtractorVGG16("vgg16", ["fc2_relu"], str(tmp_path / "w.pth"))
    images = photographs(side=(32, 40))
    extractor = VGG16(str(tmp_path / "w.pth"))
    found = extract(extractor, [images]).features
    assert found.std() > 0
    torch.testing.assert_close(found, theirs(images)[0])
    assert "TensorFlow 1 bilinear to 224x224" in str(extractor.preprocessing((3, 32, 40))["resize"])


# -- files -------------------------------------------------------------------------------------------------------------

NETWORKS = {"dinov2": (partial(DINOv2, name="dinov2_vitl14"), dinov2), "clip": (CLIP, clip), "vgg16": (VGG16, vgg16)}


@pytest.mark.parametrize("name", NETWORKS)
def test_another_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    build, layout = NETWORKS[name]
    torch.save(layout(), tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"name it as metrics\.features\.weights="):
        build(None, None)
    with pytest.raises(InputError, match="there is no such file"):
        build(str(tmp_path / "none.pth"), None)
    found = sha256(tmp_path / "w.pth")
    with pytest.raises(InputError, match=rf"its sha256 is {found}, not 0{{64}} .*metrics\.features\.sha256={found}"):
        build(str(tmp_path / "w.pth"), "0" * 64)
    build(str(tmp_path / "w.pth"), found.upper())
    for other, content in {"empty": {}, "list": [1], "other": {"a": torch.zeros(2)}}.items():
        torch.save(content, tmp_path / f"{other}.pth")
        with pytest.raises(InputError, match=r"not weights of|cannot be read") as error:
            build(str(tmp_path / f"{other}.pth"), None)
        assert "\n" not in str(error.value)
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    for bad in ("bad.pth", "bad.safetensors"):
        with pytest.raises(InputError, match="cannot be read as a file of weights"):
            build(str(tmp_path / bad), None)
    content = layout()
    content[max(content)] = torch.zeros(1)
    torch.save(content, tmp_path / "shape.pth")
    with pytest.raises(InputError, match="not weights of") as error:
        build(str(tmp_path / "shape.pth"), None)
    assert "\n" not in str(error.value)


# -- images ------------------------------------------------------------------------------------------------------------


class Prepared(PretrainedNetwork):
    """The network's input as features."""

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return self.prepare(images).flatten(1), None


@pytest.mark.parametrize("shape", [(20, 20), (33, 57), (96, 96), (7, 5)])
def test_images_are_resized_as_by_pillow(shape: tuple[int, int]) -> None:
    extractor = Prepared("x", 30, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    images = photographs(3, shape)
    pillow = [
        np.asarray(Image.fromarray(i.permute(1, 2, 0).numpy()).resize((30, 30), Image.Resampling.BICUBIC)).copy()
        for i in images
    ]
    expected = torch.from_numpy(np.stack(pillow)).permute(0, 3, 1, 2).float()
    gap = (extractor.prepare(images) - expected).abs()
    assert gap.max() <= 1  # Pillow computes in integers
    assert gap.mean() < 0.1


def everything(tmp_path: Path) -> list[FeatureExtractor]:
    found: list[FeatureExtractor] = []
    for name, (build, layout) in NETWORKS.items():
        torch.save(layout(), tmp_path / name)
        found.append(build(str(tmp_path / name)))
    return found


def test_grey_images_are_colour_and_others_are_refused(tmp_path: Path) -> None:
    grey = photographs(2, channels=1)
    for extractor in everything(tmp_path):
        torch.testing.assert_close(extractor(grey)[0], extractor(grey.expand(-1, 3, -1, -1))[0])
        with pytest.raises(InputError, match=r"not 2 channels: try metrics\.features=pixels"):
            extractor(photographs(2, channels=2))
