"""Batches over TCP and Unix sockets: listening, tickets, sessions. Must not import the gRPC transport."""
