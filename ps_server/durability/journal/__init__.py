"""The records since the newest snapshot, in a file that is appended to and synced."""
