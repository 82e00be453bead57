"""Computes initial values from a variable's full name and a seed alone. Imports no codec and no transport."""
