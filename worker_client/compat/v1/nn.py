"""``tf.nn``: what of it concerns variables."""

from worker_client.embeddings.lookup import embedding_lookup, embedding_lookup_sparse
from worker_client.ops.math_ops import l2_loss, sigmoid, tanh

__all__ = ["embedding_lookup", "embedding_lookup_sparse", "l2_loss", "sigmoid", "tanh"]
