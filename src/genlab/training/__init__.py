"""Training procedures and the optimizers, schedules, averages and process communication that they use."""
