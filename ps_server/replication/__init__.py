"""A ps task in two processes: a primary, and a backup that takes over. Must not import process."""
