"""Tests of ``worker_client.training.optimizers``."""
