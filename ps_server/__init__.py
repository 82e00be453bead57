"""The ps process: holds variables and serves them over gRPC and sockets. Must not import the client or ps_cluster."""
