"""What gives a variable its first value, by TensorFlow 1's names. Imports no graph and no connection."""

from worker_client.initializers import standard as _standard
from worker_client.initializers.base import DescribedInitializer, Initializer
from worker_client.initializers.standard import *

__all__ = ["DescribedInitializer", "Initializer"]
__all__ += _standard.__all__
