"""TensorFlow 1's training loops: sessions with hooks, supervisors, coordinators of threads. Imports no embeddings."""
