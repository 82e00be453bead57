"""What training programs share: the global step, learning rates, TensorFlow 1's servers. Imports no embeddings."""
