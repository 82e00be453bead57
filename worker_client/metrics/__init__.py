"""TensorFlow 1's metrics: local variables with sums over batches. Imports no embeddings, layers or training."""
