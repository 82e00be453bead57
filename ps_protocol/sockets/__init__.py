"""What both ends of a socket share: frames, the stream, options, injected faults. Imports no gRPC and no protobuf."""
