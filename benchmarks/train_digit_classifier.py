"""Train the classifiers that genlab ships: ``python benchmarks/train_digit_classifier.py mnist|digits``.

Trains on the training split with small shifts, rotations and scalings for a number of epochs fixed beforehand, averages
the weights, and looks at the test split once, at the end. Nothing is chosen by it.
"""

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from genlab.data.digits import Digits
from genlab.data.images import ImageDataModule
from genlab.data.mnist import MNIST
from genlab.metrics.digit_classifier import WEIGHTS, DigitClassifier
from genlab.modalities.image import to_uint8

# The network's strides, epochs, and the largest shift as a share of the side.
RECIPES = {
    "mnist": ((1, 2, 1, 2, 1), 16, 0.1),
    "digits": ((1, 2, 1, 1, 1), 100, 0.06),
}


def data_module(name: str, root: str) -> ImageDataModule:
    """The splits that ``conf/dataset`` states."""
    if name == "mnist":
        return ImageDataModule(MNIST(root), "mnist", (1, 28, 28), num_classes=10, val_size=5000, batch_size=128)
    return ImageDataModule(
        Digits(), "digits", (1, 8, 8), levels=17, num_classes=10, val_size=150, test_size=300, batch_size=64
    )


def deform(x: Tensor, shift: float) -> Tensor:
    """Rotate by up to 12 degrees, scale by up to 10 %, move by up to ``shift`` of the side; ``(B, 1, S, S)``."""
    u = 2 * torch.rand(4, len(x)) - 1
    angle, scale = u[0] * math.pi / 15, 1 + 0.1 * u[1]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    theta = torch.stack([cos, -sin, 2 * shift * u[2], sin, cos, 2 * shift * u[3]], 1).view(-1, 2, 3)
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


@torch.no_grad()
def accuracy(classifier: nn.Module, data: ImageDataModule, split: str) -> tuple[float, float]:
    """Share of a split that is classified right, and the mean probability of the class that was named."""
    right = confidence = count = 0.0
    for x, y in data.batches(split):  # type: ignore[arg-type]
        probability, named = classifier(to_uint8(x))[1].softmax(1).max(1)
        right, confidence, count = (
            right + float((named == y).sum()),
            confidence + float(probability.sum()),
            count + len(x),
        )
    return right / count, confidence / count


def train(name: str, root: str, output: Path) -> None:
    strides, epochs, shift = RECIPES[name]
    torch.manual_seed(0)
    data = data_module(name, root)
    data.setup()
    classifier = DigitClassifier(data.shape[-1], strides)
    average = AveragedModel(classifier, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    loader = data.train_dataloader()
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=1e-2)
    steps = epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    started = time.time()
    for epoch in range(epochs):
        classifier.train()
        for x, y in loader:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                _, logits = classifier.classify(deform(x, shift))
            loss = F.cross_entropy(logits.float(), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(classifier)
        share, _ = accuracy(average.module.eval(), data, "val")
        print(f"epoch {epoch + 1}/{epochs}: val {100 * share:.2f} %, {time.time() - started:.0f} s", flush=True)
    share, confidence = accuracy(average.module, data, "test")
    facts = {
        "dataset": name,
        "side": str(data.shape[-1]),
        "strides": ",".join(map(str, strides)),
        "test_accuracy": f"{share:.4f}",
        "test_confidence": f"{confidence:.4f}",
        "test_images": str(len(data.splits["test"])),
        "recipe": f"python benchmarks/train_digit_classifier.py {name}",
    }
    path = output / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in average.module.state_dict().items()}, path, facts)
    print(f"test {100 * share:.2f} %, confidence {confidence:.4f}: {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--root", default="data", help="the folder of MNIST/raw")
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="folder of the .safetensors file")
    arguments = parser.parse_args()
    train(arguments.name, arguments.root, arguments.output)
