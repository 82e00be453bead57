"""What both ends of a plain socket share: frames, the stream, options, injected faults. Imports no gRPC."""
