"""The tests that each of the mutated files is tried with: those of the file alone first, which take milliseconds."""

CHOSEN: dict[str, tuple[str, ...]] = {
    "callbacks/best_checkpoint.py": (
        "tests/training/test_keeping_the_best.py",
        "tests/metrics/test_sample_metrics.py::test_the_best_is_kept_not_the_last",
    ),
    "data/batches.py": (
        "tests/data/test_batches.py",
        "tests/data/test_data.py::test_processes_share_every_batch",
        "tests/data/test_data.py::test_a_folder_too_large_for_memory_is_read_by_workers_alike",
    ),
    "distributions/pixel.py": (
        "tests/laws/test_pixel_details.py",
        "tests/laws/test_discretized_gaussian.py",
        "tests/laws/test_pixel_distributions.py",
        "tests/laws/test_pixel_mixtures.py",
    ),
    "layers/attention.py": ("tests/laws/test_attention_layer.py", "tests/laws/test_transformer.py"),
    "metrics/quality.py": (
        "tests/metrics/test_sample_quality.py",
        "tests/metrics/test_quality.py::test_kid_of_two_halves_of_a_set_is_unbiased_around_zero",
        "tests/metrics/test_quality.py::test_fid_of_two_gaussians_is_the_closed_form",
        "tests/metrics/test_quality.py::test_density_rewards_samples_near_the_modes",
    ),
    "models/gan/regularizers.py": ("tests/laws/test_gan_penalties.py", "tests/laws/test_gan_regularizers.py"),
    "models/vae/objectives.py": (
        "tests/laws/test_vae_objectives.py",
        "tests/laws/test_free_bits.py",
        "tests/laws/test_vae.py::test_mmd_agrees_with_sums_over_pairs_and_is_unbiased",
        "tests/laws/test_vae.py::test_systematic_choice_takes_each_draw_by_its_weight",
        "tests/laws/test_vae.py::test_free_bits_leave_a_latent_alone_until_it_costs_more",
    ),
    "runs/checkpoints.py": (
        "tests/runs/test_sealed_files.py",
        "tests/runs/test_seals.py::test_a_changed_file_is_noticed_anywhere",
        "tests/training/test_resume.py::test_what_was_the_newest_becomes_the_one_before",
        "tests/training/test_resume.py::test_every_flipped_byte_is_noticed",
    ),
    "training/ema.py": (
        "tests/training/test_average.py",
        "tests/training/test_training.py::test_the_average_follows_and_is_what_samples",
        "tests/training/test_training.py::test_buffers_are_copied_to_the_average",
    ),
    "training/processes.py": ("tests/training/test_exchange.py",),
}
