"""Carries out batches, each update exactly once. Imports the store; no log, no transport."""
