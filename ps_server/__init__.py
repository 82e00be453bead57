"""The ps process: holds variables and serves them over gRPC and sockets. Must not import the client or ps_cluster."""

import os

# Before gRPC is imported. What it would print of a port that is taken, the log says in words.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
