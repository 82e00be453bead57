"""A worker's way to its ps tasks: order, retries, pipelining, availability. Imports no variables, no graph."""
