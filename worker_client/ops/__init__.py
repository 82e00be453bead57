"""TensorFlow 1's functions that make operations. On top of graph, deferred and scopes."""
