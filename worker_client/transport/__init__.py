"""The ways to a ps task: each is a ``PsEndpoint``, whose batches take one of several transports."""
