"""Reproducing published figures: recipes, their runs, records of what was measured, and tables made of records."""
