"""``tf.nn``: embeddings, activations, losses of logits, and what else of it needs no derivatives."""

from worker_client.embeddings.lookup import embedding_lookup, embedding_lookup_sparse
from worker_client.embeddings.sampled_losses import nce_loss, sampled_softmax_loss
from worker_client.ops import nn_ops as _nn_ops
from worker_client.ops.math_ops import l2_loss, sigmoid, tanh
from worker_client.ops.nn import candidate_samplers as _candidate_samplers
from worker_client.ops.nn import convolutions as _convolutions
from worker_client.ops.nn import moments as _moments
from worker_client.ops.nn import normalization as _normalization
from worker_client.ops.nn import pools as _pools
from worker_client.ops.nn.candidate_samplers import *
from worker_client.ops.nn.convolutions import *
from worker_client.ops.nn.moments import *
from worker_client.ops.nn.normalization import *
from worker_client.ops.nn.pools import *
from worker_client.ops.nn_ops import *
from worker_client.ops.order_ops import in_top_k, top_k
from worker_client.ops.statistics_ops import l2_normalize, moments, zero_fraction
from worker_client.values.left_out import getattr_of

__all__ = [
    "embedding_lookup",
    "embedding_lookup_sparse",
    "in_top_k",
    "l2_loss",
    "l2_normalize",
    "moments",
    "nce_loss",
    "sampled_softmax_loss",
    "sigmoid",
    "tanh",
    "top_k",
    "zero_fraction",
]
__all__ += _nn_ops.__all__
__all__ += _convolutions.__all__
__all__ += _pools.__all__
__all__ += _normalization.__all__
__all__ += _moments.__all__
__all__ += _candidate_samplers.__all__

__getattr__ = getattr_of("nn")
