"""Files on disk: written and synced in pieces, and how specs and values lie in them. Imports no transport."""
