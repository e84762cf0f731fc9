"""The domain in plain Python: what a persona, a line, a recipe, a record, an adapter and a catalog are. No ray, no torch."""
