"""The gRPC services of a ps task. Must not import the sockets. Besides, only replication and process import grpc."""
