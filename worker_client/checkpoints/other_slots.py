"""Which tensors of other forms are slots of optimizers of ``ss.train``, as far as their names tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import numpy as np

from ps_protocol.optimizer_rules import RULES
from ps_protocol.tensor_files.stored_tensor import StoredTensor

_SLOT_NAMES: Final = {"step", *[slot.name for rule in RULES.values() for slot in rule.all_slots]}
_OF_TENSORFLOW: Final = re.compile(r"(.+)/(?:Adam|Momentum|Adagrad|RMSProp|Adadelta|Ftrl)(?:_[1-9])?")
"""How TensorFlow 1's optimizers name the slots of a variable, if they have not been given another name."""

_POWERS: Final = re.compile(r"(?:.+/)?beta[12]_power(?:_[0-9]+)?")
_PART: Final = re.compile(r"/part_[0-9]+")


def without_slots(tensors: Mapping[str, StoredTensor]) -> tuple[dict[str, StoredTensor], list[str]]:
    """Returns the tensors that are no slots, and the names of those that are: "layer/weights/Adam/m" and its like.

    No file but our own has the settings of their optimizers, without which they are of no use.
    """
    slots = [name for name in tensors if _is_slot(name, tensors)]
    left_out = set(slots)
    return {name: tensor for name, tensor in tensors.items() if name not in left_out}, slots


def slots_of_tensorflow(tensors: Mapping[str, StoredTensor]) -> list[str]:
    """Returns the names of those that TensorFlow 1's optimizers keep: "layer/weights/Adam_1", "beta1_power".

    For them these are variables like others, here too, and so they need no settings of an optimizer to be restored.
    """
    found = []
    for name, tensor in tensors.items():
        match = _OF_TENSORFLOW.fullmatch(name)
        owner = None if match is None else tensors.get(match[1])
        is_beside = owner is not None and (owner.shape, owner.dtype) == (tensor.shape, tensor.dtype)
        is_power = not tensor.shape and np.issubdtype(tensor.dtype, np.floating) and _POWERS.fullmatch(name)
        if is_beside or is_power:
            found.append(name)
    return found


def _is_slot(name: str, tensors: Mapping[str, StoredTensor]) -> bool:
    beside, _, slot = name.rpartition("/")
    owner = beside.rpartition("/")[0]
    return slot in _SLOT_NAMES and (owner in tensors or _PART.sub("", owner) in tensors)
