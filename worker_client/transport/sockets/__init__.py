"""Batches over plain TCP and Unix sockets, from the client's end."""
