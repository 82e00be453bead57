"""``tf.losses``: losses of predictions and of regularizers."""

from worker_client.ops import losses as _losses
from worker_client.ops.losses import *
from worker_client.ops.losses_of_vectors import cosine_distance, mean_pairwise_squared_error
from worker_client.ops.regularizers import get_regularization_loss, get_regularization_losses
from worker_client.values.left_out import getattr_of

__all__ = ["cosine_distance", "get_regularization_loss", "get_regularization_losses", "mean_pairwise_squared_error"]
__all__ += _losses.__all__

__getattr__ = getattr_of("losses")
