"""Memory that tensors lie in: shared segments, mapping them, copying much at once. Imports no other room."""
