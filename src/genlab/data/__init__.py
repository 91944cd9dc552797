"""Data sets: sources of examples, their splits, and the DataModules that turn them into batches."""
