"""Measurements of Shardscope; each module is run by itself, as ``python -m benchmarks.variable_model``."""
