"""The tests that each of the mutated files is tried with: its own first, which take milliseconds."""

CHOSEN: dict[str, tuple[str, ...]] = {
    "callbacks/best_checkpoint.py": (
        "tests/metrics/test_sample_metrics.py::test_the_best_is_kept_not_the_last",
        "tests/metrics/test_sample_metrics.py::test_a_figure_that_is_absent_at_validation_does_not_end_the_run",
    ),
    "data/batches.py": ("tests/data/test_data.py",),
    "distributions/pixel.py": ("tests/laws/test_pixel_distributions.py", "tests/laws/test_pixel_mixtures.py"),
    "layers/attention.py": ("tests/laws/test_transformer.py",),
    "metrics/quality.py": ("tests/metrics/test_quality.py",),
    "models/gan/regularizers.py": ("tests/laws/test_gan_regularizers.py",),
    "models/vae/objectives.py": ("tests/laws/test_vae.py",),
    "runs/checkpoints.py": ("tests/training/test_resume.py",),
    "training/ema.py": ("tests/training/test_training.py",),
    "training/processes.py": (),
}
