"""The records since the newest snapshot, in synced files. Must not import the snapshots."""
