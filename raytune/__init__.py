"""Sweeps: from fields of a recipe to trials in the slots of one training run, and back to a recipe."""
