"""TensorFlow 1's savers: variables of a session to files and back. Imports no training loops and no optimizers."""
