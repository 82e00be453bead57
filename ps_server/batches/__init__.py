"""Carries out batches, each update exactly once. Must not import cluster, the log or a transport."""
