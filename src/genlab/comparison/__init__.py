"""Runs side by side, from their folders alone: tables, pages and a W&B workspace."""
