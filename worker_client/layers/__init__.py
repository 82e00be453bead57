"""TensorFlow 1's layers: functions of tensors with variables of their own. Imports no embeddings, metrics, training."""
