"""Walks a graph backwards, and adds an operation for each gradient. Imports no ops and no sessions."""
