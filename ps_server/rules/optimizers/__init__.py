"""Optimizers' update rules: change a variable and its slots by a gradient. Imports only rules and memory of the ps."""
