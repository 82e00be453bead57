"""Starts, watches, restarts and ends the processes of a cluster on this machine. Does not import ``cli``."""
