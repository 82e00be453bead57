"""``tf.metrics``: means, counts and areas over all batches."""

from worker_client.metrics import counts as _counts
from worker_client.metrics import means as _means
from worker_client.metrics import thresholds as _thresholds
from worker_client.metrics.counts import *
from worker_client.metrics.means import *
from worker_client.metrics.thresholds import *
from worker_client.values.left_out import getattr_of

__all__: list[str] = []
__all__ += _counts.__all__
__all__ += _means.__all__
__all__ += _thresholds.__all__

__getattr__ = getattr_of("metrics")
