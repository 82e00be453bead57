"""Which tensors of other forms are slots of optimizers of ``ss.train``, as far as their names tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ps_protocol.optimizer_rules import RULES
from ps_protocol.tensor_files.stored_tensor import StoredTensor

_SLOT_NAMES: Final = {"step", *[slot.name for rule in RULES.values() for slot in rule.all_slots]}
_PART: Final = re.compile(r"/part_[0-9]+")


def without_slots(tensors: Mapping[str, StoredTensor]) -> tuple[dict[str, StoredTensor], list[str]]:
    """Returns the tensors that are no slots, and the names of those that are: "layer/weights/Adam/m" and its like.

    No file but our own has the settings of their optimizers, without which they are of no use.
    """
    slots = [name for name in tensors if _is_slot(name, tensors)]
    left_out = set(slots)
    return {name: tensor for name, tensor in tensors.items() if name not in left_out}, slots


def _is_slot(name: str, tensors: Mapping[str, StoredTensor]) -> bool:
    beside, _, slot = name.rpartition("/")
    owner = beside.rpartition("/")[0]
    return slot in _SLOT_NAMES and (owner in tensors or _PART.sub("", owner) in tensors)
