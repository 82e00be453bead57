"""Batches with tensors in memory shared with a client on the same host. Must not import grpc or sockets."""
