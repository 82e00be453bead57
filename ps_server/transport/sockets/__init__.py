"""Batches over plain TCP and Unix sockets: listening, tickets, sessions."""
