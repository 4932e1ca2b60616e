"""From raw files to batches: the packed store, its splits, its audit, and what reads it."""
