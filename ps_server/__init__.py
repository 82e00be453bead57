"""The ps process: holds variables, keeps the directory, and serves both over gRPC."""
