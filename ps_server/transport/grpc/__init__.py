"""The gRPC services of a ps task. The only room of the ps, with replication and process, that imports grpc."""
