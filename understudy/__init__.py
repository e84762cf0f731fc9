"""The domain in plain Python: persona, line, recipe, record, adapter, catalog. No ray, no torch."""
