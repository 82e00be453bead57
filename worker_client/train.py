"""Training with optimizers that the ps tasks carry out; use it as ``ss.train``."""

from typing import TYPE_CHECKING

from worker_client.optimizers.clipping import clip_by_global_norm, clip_by_norm, clip_by_value, global_norm
from worker_client.optimizers.moving_averages import ExponentialMovingAverage
from worker_client.optimizers.optimizer import Optimizer
from worker_client.optimizers.outcomes import Applied
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
from worker_client.optimizers.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    LinearWarmup,
    NaturalExpDecay,
    OneCycle,
    PiecewiseConstant,
    PolynomialDecay,
)
from worker_client.training.together.session import TrainingSession

__all__ = [
    "Adadelta",
    "Adagrad",
    "AdagradDA",
    "Adam",
    "AdamW",
    "Applied",
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "ExponentialMovingAverage",
    "Ftrl",
    "GradientDescent",
    "GroupFtrl",
    "InverseTimeDecay",
    "Lamb",
    "Lars",
    "LinearWarmup",
    "Lion",
    "Momentum",
    "NaturalExpDecay",
    "OneCycle",
    "Optimizer",
    "PiecewiseConstant",
    "PolynomialDecay",
    "ProximalAdagrad",
    "ProximalGradientDescent",
    "RMSProp",
    "RowWiseAdagrad",
    "TrainingSession",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "global_norm",
]

_OF_OTHERS = {"SGD": "GradientDescent", "RMSprop": "RMSProp", "LARS": "Lars", "LAMB": "Lamb"}

if not TYPE_CHECKING:  # which knows a name that is not there by itself

    def __getattr__(name: str) -> object:
        ours = _OF_OTHERS.get(name, name.removesuffix("Optimizer"))
        if ours == name or ours not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        graphs = f", and for graphs worker_client.compat.v1.train.{name}" if name.endswith("Optimizer") else ""
        # Without the module, of which Python would suggest another name.
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}: there is {ours}{graphs}", name=name, obj=None
        )
