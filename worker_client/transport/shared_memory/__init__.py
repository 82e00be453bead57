"""Batches whose tensors lie in segments shared with a ps on the same host, from the client's end."""
