"""Batches whose tensors lie in segments that a client on the same host has mapped too."""
