"""Comparison of runs from their folders alone: tables, HTML pages and a W&B workspace."""
