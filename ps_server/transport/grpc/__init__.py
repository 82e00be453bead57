"""The gRPC services of a ps task. Must not import sockets. Coordination, replication and process import grpc too."""
