"""What both ends of gRPC share: status codes, channel options, chunks of large tensors. Imports no sockets."""
