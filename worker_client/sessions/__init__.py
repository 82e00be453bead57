"""Runs deferred operations: what is fetched, in which rounds, with which exchanges."""
