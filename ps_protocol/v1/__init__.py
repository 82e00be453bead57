"""Code that ``make proto`` generates from ``proto/ps_protocol/v1``. Imports none of our other modules."""
