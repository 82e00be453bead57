"""Code generated from ``proto/ps_protocol/v1``; ``make proto`` writes it anew."""
