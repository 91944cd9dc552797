"""The measures of samples whose features are given: which there are, and where they are computed."""

import pytest
import torch

from genlab.metrics.features import Features
from genlab.metrics.quality import sample_quality
from support.running_quality import reference

NAMES = {"fid", "kid", "precision", "recall", "density", "coverage"}


def test_there_is_an_inception_score_of_features_with_logits_alone() -> None:
    fake, real = torch.randn(30, 4), torch.randn(40, 4)
    assert set(sample_quality(Features(fake, None), reference(real))) == NAMES
    assert set(sample_quality(Features(fake, torch.randn(30, 3)), reference(real))) == {*NAMES, "inception_score"}


def test_distances_are_computed_on_the_device_that_is_given() -> None:
    fake, real = Features(torch.randn(30, 4), None), reference(torch.randn(40, 4))
    on_cpu = sample_quality(fake, real, torch.device("cpu"))
    assert {name: r.value for name, r in on_cpu.items()} == {
        name: r.value for name, r in sample_quality(fake, real).items()
    }
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):  # a device that holds no numbers
        sample_quality(fake, real, torch.device("meta"))
