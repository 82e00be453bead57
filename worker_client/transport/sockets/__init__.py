"""The client's end of TCP and Unix sockets. Imports no gRPC."""
