"""Measurements of Shardscope: ``python -m benchmarks`` compares it with others. Each other module measures one thing.

``docs/performance.md`` lists the commands and says how they measure.
"""
