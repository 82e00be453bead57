"""Processes of a cluster on this machine: start, watch, restart, end. Imports no command line."""
