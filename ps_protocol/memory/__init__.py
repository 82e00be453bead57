"""Memory that holds tensors: shared segments, their mapping, large copies. Imports no other room."""
