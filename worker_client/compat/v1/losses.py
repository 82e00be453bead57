"""``tf.losses``: what of it concerns variables."""

from worker_client.ops.regularizers import get_regularization_loss, get_regularization_losses

__all__ = ["get_regularization_loss", "get_regularization_losses"]
