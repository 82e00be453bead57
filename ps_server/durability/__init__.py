"""Keeps a logged state on disk, and brings it back. Must not import replication or a transport."""
