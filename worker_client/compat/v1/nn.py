"""``tf.nn``: what of it concerns variables."""

from worker_client.embedding import embedding_lookup, embedding_lookup_sparse
from worker_client.ops.math_ops import l2_loss, sigmoid, tanh

__all__ = ["embedding_lookup", "embedding_lookup_sparse", "l2_loss", "sigmoid", "tanh"]
