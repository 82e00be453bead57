"""Training with optimizers that the ps tasks carry out; use it as ``ss.train``."""

from worker_client.optimizers.optimizer import Applied, Optimizer
from worker_client.optimizers.rules import (
    Adadelta,
    Adagrad,
    AdagradDA,
    Adam,
    AdamW,
    Ftrl,
    GradientDescent,
    GroupFtrl,
    Lamb,
    Lars,
    Lion,
    Momentum,
    ProximalAdagrad,
    ProximalGradientDescent,
    RMSProp,
    RowWiseAdagrad,
)

__all__ = [
    "Adadelta",
    "Adagrad",
    "AdagradDA",
    "Adam",
    "AdamW",
    "Applied",
    "Ftrl",
    "GradientDescent",
    "GroupFtrl",
    "Lamb",
    "Lars",
    "Lion",
    "Momentum",
    "Optimizer",
    "ProximalAdagrad",
    "ProximalGradientDescent",
    "RMSProp",
    "RowWiseAdagrad",
]
