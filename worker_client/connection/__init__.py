"""A connection to each ps task: order, retries, pipelining, availability. Imports only transport and values."""
