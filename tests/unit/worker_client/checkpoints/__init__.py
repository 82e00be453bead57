"""Tests of ``worker_client.checkpoints``."""
