"""TensorFlow 1's functions that make operations. Imports no sessions, embeddings or training."""
