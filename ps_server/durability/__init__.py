"""Keeps a task's log on disk and brings its state back. Imports log; no transport."""
