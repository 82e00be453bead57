"""Asks a running cluster what it is doing, and shapes the answers as tables and records. Imports no other room."""
