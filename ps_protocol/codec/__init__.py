"""Turns typed values into protobuf headers with tensor buffers beside them, and back. Imports no gRPC and no socket."""
