"""What training loops share: the global step. Imports no embeddings."""
