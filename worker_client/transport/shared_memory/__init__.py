"""The client's end of memory shared with a ps on the same host. Imports no gRPC and no sockets room."""
