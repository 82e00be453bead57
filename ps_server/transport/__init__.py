"""The ways by which batches reach the core."""
