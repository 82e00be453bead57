"""Runs deferred operations in rounds, with one exchange for each ps task. Imports no ops."""
