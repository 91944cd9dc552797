"""Update saved configs to today's classes, so that every run on disk keeps opening.

A run's ``config.yaml`` names each class by its import path. When a class moves, its old path is added to ``MOVED``, and
:func:`current` is applied wherever a saved config is built, resumed or compared. When a class gains a key, the key is
added to ``ADDED`` with the value that reproduces the earlier behaviour, so that old runs resume unchanged.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

MOVED = {
    "genlab.runs.evaluation": "genlab.metrics.evaluation",
    "genlab.runs.metrics_csv": "genlab.loggers.metrics_csv",
    "genlab.runs.wandb": "genlab.loggers.wandb",
    "genlab.sweeps": "genlab.launching.sweeps",
}

# By today's import path: keys that the class lacked in earlier versions, and keys that it no longer uses.
ADDED: dict[str, dict[str, Any]] = {
    "genlab.data.table.Table": {"header": "text"},
    "pytorch_lightning.Trainer": {"tf32": False, "tune": "off", "tune_precision": False, "tune_seconds": 30},
    "genlab.training.adversarial.AdversarialTraining": {
        "discriminator_start": 0,
        "adversarial_weight": 1.0,
        "adaptive_weight": False,
        "real_noise": 0.0,
        "ema_images": None,
        "ema_ramp": None,
        "on_nan": "end",
        "rollback_factor": 0.5,
        "max_rollbacks": 3,
    },
    "genlab.training.objective.ObjectiveTraining": {
        "on_nan": "end",
        "rollback_factor": 0.5,
        "max_rollbacks": 3,
    },
    "genlab.models.autoregressive.pixel_cnn_pp.PixelCNNpp": {"weight_norm": False},
    "genlab.models.autoregressive.pixel_snail.PixelSNAIL": {"weight_norm": False, "marked_keys": True},
    "genlab.models.vae.hierarchical_vae.HierarchicalVAE": {
        "joint": False,
        "affine_output": False,
        "zero_biases": False,
    },
    "genlab.models.flow.glow.Glow": {
        "edge_channel": False,
        "nets_normalized": False,
        "log_factor": None,
        "init_std": None,
        "top_by_place": True,
        "lu": True,
        "logit": True,
    },
    "genlab.models.flow.real_nvp.RealNVP": {
        "patch": 2,
        "second_kernel": 1,
        "skips": False,
        "widen": False,
        "batch_norm": None,
    },
    "genlab.metrics.evaluation.Evaluation": {"norm_statistics": None},
    "genlab.models.diffusion.mean_flow.MeanFlow": {"time_scale": 1000.0},
    "genlab.models.gan.augment_pipe.AdaptiveAugmentation": {"filtered": False},
    "genlab.models.gan.augment_pipe.ScheduledAugmentation": {"filtered": False},
    "genlab.models.gan.r3gan.R3GAN": {"float32_core": False},
    "genlab.models.gan.sngan.SNGAN": {"pooling": "sum"},
    "genlab.models.gan.stylegan2.StyleGAN2": {"class_layers": 0, "class_bias": False, "float32_core": False},
    "genlab.models.vae.posteriors.PlanarFlows": {"from_identity": False},
    "genlab.models.vae.priors.VampPrior": {"squash": "sigmoid"},
    "genlab.models.vae.vq_vae.VQVAE": {"commitment_sum": False},
    "genlab.networks.natural.natural": {"group_size": 1},
    "genlab.networks.unet.UNet": {"group_size": 1},
}
UNUSED: dict[str, dict[str, Any]] = {
    "genlab.data.text.TextDataModule": {"num_classes": None},  # a window's class was once the token before it
}

# What conf/ chose in earlier versions and chooses otherwise today: a key, its value then, and its value now. A run that
# is resumed composes its config again from its overrides, and keeps what it was begun with.
RECHOSEN: tuple[tuple[str, Any, Any], ...] = (
    (
        "_target_",  # of distribution=gaussian
        "genlab.distributions.pixel.DequantizedGaussian",
        "genlab.distributions.pixel.DiscretizedGaussian",
    ),
    ("from_identity", False, True),  # of vae/posterior=planar
    ("weight_norm", False, True),  # of autoregressive/pixel_cnn_pp and pixel_snail
    # Of flow/glow and its variants:
    ("edge_channel", False, True),
    ("nets_normalized", False, True),
    ("log_factor", None, 3.0),
    ("init_std", None, 0.05),
    ("top_by_place", True, False),
    ("time_scale", 1000.0, 1.0),  # of diffusion/mean_flow
    ("group_size", 1, 4),  # of the U-Net of diffusion models
)

# Choices of a group whose model is another class today: the override, the class then, and today's override for it.
CHOSEN_THEN: tuple[tuple[str, str, str], ...] = (
    ("model=flow/flow_plus_plus", "genlab.models.flow.glow.Glow", "model=flow/glow_mixture"),
)


def choices_today(overrides: Sequence[str], saved: Mapping[str, Any]) -> list[str]:
    """Copy the overrides of a run, with today's choice for each that named another model when the run began.

    Args:
        overrides: overrides that the run was started with.
        saved: config that the run was saved with, from :func:`current`.
    """
    target = (saved.get("model") or {}).get("_target_")
    today = {then: now for then, model, now in CHOSEN_THEN if model == target}
    return [today.get(override, override) for override in overrides]


def current(config: Any) -> Any:
    """Copy a saved config, with today's import path in every ``_target_`` and today's keys of each class.

    Args:
        config: saved config, as plain values; nested lists and mappings are updated too.
    """
    if isinstance(config, Mapping):
        node = {
            key: current_path(value) if key == "_target_" and isinstance(value, str) else current(value)
            for key, value in config.items()
        }
        target = node.get("_target_")
        return {**ADDED.get(target, {}), **node, **UNUSED.get(target, {})} if isinstance(target, str) else node
    if isinstance(config, list):
        return [current(value) for value in config]
    return config


def as_begun(config: Any, saved: Any, changed: Collection[str] = (), prefix: str = "") -> Any:
    """Copy a config that was composed again, with the run's own value of each key that conf/ has since rechosen.

    Args:
        config: config as composed today, as plain values.
        saved: config that the run was saved with, from :func:`current`.
        changed: keys that were changed on the command line; these are left as they are.
        prefix: prefix of this config's keys in ``changed``.
    """
    if not isinstance(config, Mapping) or not isinstance(saved, Mapping):
        return config
    return {
        key: saved[key]
        if (key, saved.get(key), value) in RECHOSEN and f"{prefix}{key}" not in changed
        else as_begun(value, saved.get(key), changed, f"{prefix}{key}.")
        for key, value in config.items()
    }


def current_path(target: str) -> str:
    """Give today's import path of a module, or of something inside one.

    Args:
        target: import path in this or any earlier version.
    """
    parts = target.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module in MOVED:
            return ".".join([MOVED[module], *parts[length:]])
    return target
