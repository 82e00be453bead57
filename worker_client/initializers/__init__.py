"""Initializers: what says a variable's first value, by TensorFlow 1's names. Imports values alone."""

from worker_client.initializers import standard as _standard
from worker_client.initializers.base import DescribedInitializer, Initializer
from worker_client.initializers.standard import *

__all__ = ["DescribedInitializer", "Initializer"]
__all__ += _standard.__all__
