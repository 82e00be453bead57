"""Writes and reads the commonest headers by hand: protobuf's bytes, but faster. Imports no gRPC and no socket."""
