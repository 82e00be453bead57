"""Draws on a terminal: lines of output, a live table. Imports neither ``local`` nor ``cli``."""
