"""Comparison of runs from different versions of genlab: completes the configs of older runs with newer keys."""

from collections.abc import Collection, Mapping
from typing import Any

# For each class, the keys that were added to conf/ after the class itself: the date, and the value that reproduces the
# behaviour before the key existed. Do not change a value here when the default changes: older runs stay as they were.
LATER_KEYS: dict[str, dict[str, tuple[str, Any]]] = {
    "genlab.callbacks.progress.TrainingProgress": {"line_every": ("2026-11-23", 20)},
    "genlab.callbacks.sample_metrics.SampleMetrics": {"every_images": ("2026-11-23", None)},
    "genlab.data.images.ImageDataModule": {
        "train_size": ("2026-11-23", None),
        "shift": ("2026-11-29", None),
    },
    "genlab.data.table.Table": {"header": ("2026-11-29", "text")},
    "genlab.metrics.evaluation.Evaluation": {"norm_statistics": ("2026-11-29", None)},
    "genlab.metrics.features.Pixels": {"max_features": ("2026-11-23", 256)},
    "genlab.models.autoregressive.pixel_cnn.PixelCNN": {"kernel_size": ("2026-11-23", 3)},
    "genlab.models.autoregressive.pixel_cnn_pp.PixelCNNpp": {"weight_norm": ("2026-11-29", False)},
    "genlab.models.autoregressive.pixel_snail.PixelSNAIL": {
        "weight_norm": ("2026-11-29", False),
        "marked_keys": ("2026-11-29", True),
    },
    "genlab.models.diffusion.mean_flow.MeanFlow": {"time_scale": ("2026-11-29", 1000.0)},
    "genlab.models.flow.glow.Glow": {
        "edge_channel": ("2026-11-29", False),
        "nets_normalized": ("2026-11-29", False),
        "log_factor": ("2026-11-29", None),
        "init_std": ("2026-11-29", None),
        "top_by_place": ("2026-11-29", True),
        "lu": ("2026-11-29", True),
        "logit": ("2026-11-29", True),
    },
    "genlab.models.flow.real_nvp.RealNVP": {
        "patch": ("2026-11-29", 2),
        "second_kernel": ("2026-11-29", 1),
        "skips": ("2026-11-29", False),
        "widen": ("2026-11-29", False),
        "batch_norm": ("2026-11-29", None),
    },
    "genlab.models.gan.augment_pipe.AdaptiveAugmentation": {"filtered": ("2026-11-29", False)},
    "genlab.models.gan.augment_pipe.ScheduledAugmentation": {"filtered": ("2026-11-29", False)},
    "genlab.models.gan.biggan.BigGAN": {
        "channel_base": ("2026-11-23", None),
        "discriminator_channel_base": ("2026-11-23", None),
    },
    "genlab.models.gan.dcgan.DCGAN": {
        "normalization": ("2026-11-23", "batch"),
        "minibatch_std": ("2026-11-23", None),
        "pack": ("2026-11-23", 1),
    },
    "genlab.models.gan.r3gan.R3GAN": {
        "channel_base": ("2026-11-23", None),
        "float32_core": ("2026-11-29", False),
    },
    "genlab.models.gan.regularizers.R1": {
        "final_gamma": ("2026-11-23", None),
        "decay_images": ("2026-11-23", None),
    },
    "genlab.models.gan.regularizers.R2": {
        "final_gamma": ("2026-11-23", None),
        "decay_images": ("2026-11-23", None),
    },
    "genlab.models.gan.sngan.SNGAN": {
        "channel_base": ("2026-11-23", None),
        "discriminator_channel_base": ("2026-11-23", None),
        "pooling": ("2026-11-29", "sum"),
    },
    "genlab.models.gan.stylegan2.StyleGAN2": {
        "class_layers": ("2026-11-29", 0),
        "class_bias": ("2026-11-29", False),
        "float32_core": ("2026-11-29", False),
    },
    "genlab.models.transformer.image_gpt.ImageGPT": {
        "positions": ("2026-11-24", "learned"),
        "norm": ("2026-11-24", "layer"),
        "mlp": ("2026-11-24", "gelu"),
        "num_kv_heads": ("2026-11-24", None),
        "stride": ("2026-11-24", None),
        "checkpoint_gradients": ("2026-11-24", False),
    },
    "genlab.models.vae.hierarchical_vae.HierarchicalVAE": {
        "bottleneck": ("2026-11-29", None),
        "joint": ("2026-11-29", False),
        "affine_output": ("2026-11-29", False),
        "zero_biases": ("2026-11-29", False),
    },
    "genlab.models.vae.networks.FullyConnected": {"center": ("2026-11-24", False)},
    "genlab.models.vae.objectives.IWAE": {"backward_draws": ("2026-11-26", None)},
    "genlab.models.vae.posteriors.DiagonalGaussian": {"log_variance": ("2026-11-29", None)},
    "genlab.models.vae.posteriors.PlanarFlows": {"from_identity": ("2026-11-29", False)},
    "genlab.models.vae.priors.VampPrior": {
        "squash": ("2026-11-29", "sigmoid"),
        "first_mean": ("2026-11-29", None),
    },
    "genlab.models.vae.vq_vae.VQVAE": {
        "commitment_sum": ("2026-11-29", False),
        "decay": ("2026-11-24", 0.99),
        "restart_below": ("2026-11-24", 0.05),
    },
    "genlab.networks.natural.natural": {"group_size": ("2026-11-29", 1)},
    "genlab.networks.unet.UNet": {"group_size": ("2026-11-29", 1)},
    "genlab.training.adversarial.AdversarialTraining": {
        "augment": ("2026-11-23", None),
        "generator_steps": ("2026-11-23", 1),
        "channels_last": ("2026-11-23", False),
        "fused": ("2026-11-23", True),
        "generator_batch": ("2026-11-27", 1),
        "real_noise": ("2026-11-29", 0.0),
        "ema_images": ("2026-11-29", None),
        "ema_ramp": ("2026-11-29", None),
        "on_nan": ("2026-11-30", "end"),
        "rollback_factor": ("2026-11-30", 0.5),
        "max_rollbacks": ("2026-11-30", 3),
    },
    "genlab.training.objective.ObjectiveTraining": {
        "channels_last": ("2026-11-23", False),
        "fused": ("2026-11-23", True),
        "skip_above": ("2026-11-29", None),
        "on_nan": ("2026-11-30", "end"),
        "rollback_factor": ("2026-11-30", 0.5),
        "max_rollbacks": ("2026-11-30", 3),
    },
    "genlab.training.schedules.cosine": {"until": ("2026-11-27", 1.0)},
    "pytorch_lightning.Trainer": {
        "compile": ("2026-11-23", False),
        "num_nodes": ("2026-11-29", 1),
        "tf32": ("2026-11-29", False),
    },
}

# The same for sampling settings, by the class of the model: values with which earlier results were measured.
LATER_SETTINGS: dict[str, dict[str, Any]] = {"genlab.models.gan.stylegan2.StyleGAN2": {"noise": "fixed"}}


def with_later_keys(config: Mapping[str, Any], overrides: Collection[str] = (), prefix: str = "") -> dict[str, Any]:
    """Complete a nested config with the keys that did not exist yet when its run was made.

    Each key gets the value that reproduces the behaviour before the key existed. The run then counts as having the
    same setting as a newer run whose config has this value.

    Args:
        config: nested config of the run.
        overrides: keys that were overridden when the run was started; these are not added.
        prefix: prefix of this config's keys in ``overrides``.
    """
    complete = {
        key: with_later_keys(value, overrides, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in config.items()
    }
    for key, (_, value) in LATER_KEYS.get(str(config.get("_target_")), {}).items():
        if f"{prefix}{key}" not in overrides:
            complete.setdefault(key, value)
    return complete
