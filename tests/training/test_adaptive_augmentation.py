"""The speed of adaptive augmentation is stated in images, whatever the discriminator judges at once."""

import pytest
import pytorch_lightning as pl
import torch

from genlab.data.digits import Digits
from genlab.data.images import ImageDataModule
from genlab.models.gan.augment_pipe import AdaptiveAugmentation
from genlab.models.gan.dcgan import DCGAN
from genlab.models.gan.losses import NonSaturating
from genlab.training.adversarial import AdversarialTraining


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("pack", [1, 2, 5])
def test_p_rises_by_the_images_that_the_discriminator_saw(
    pack: int, accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6 batches of 10 images, and p rises from 0 to 1 over 1,000: to 0.06."""
    torch.manual_seed(0)
    model = DCGAN((1, 8, 8), channels=4, latent_dim=4, pack=pack)
    augment = AdaptiveAugmentation(target=0.6, images_to_full=1000, every=2)
    game = AdversarialTraining(
        model,
        NonSaturating(),
        lambda p: torch.optim.SGD(p, 0.0),
        lambda p: torch.optim.SGD(p, 0.0),
        augment=augment,
        accumulate=accumulate,
    )
    update = augment.update
    monkeypatch.setattr(augment, "update", lambda logits: update(torch.ones_like(logits)))  # a D that is always sure
    data = ImageDataModule(Digits(), "digits", (1, 8, 8), levels=17, batch_size=10, val_size=150, test_size=300)
    pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_epochs=1,
        limit_train_batches=6, limit_val_batches=0, use_distributed_sampler=False, enable_checkpointing=False,
    ).fit(game, datamodule=data)  # fmt: skip
    torch.testing.assert_close(augment.p.cpu(), torch.tensor(0.06))
