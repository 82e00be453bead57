"""Steps that rows were left out of: what a zero gradient would have done to them, when they are used the next time.

The result is that of the mode "tf1" to rounding, if the settings have been the same in all those steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ps_protocol.operations import Array
from ps_server.rules.optimizers.application import run_by_numpy
from ps_server.rules.optimizers.blocks import Workspace
from ps_server.rules.optimizers.constants import Constants, elementwise, rounded_settings

Steps = npt.NDArray[np.int64]

_NEGLIGIBLE: Final = 1e-10
"""Steps of Adam's that are smaller by this factor than the first are left out."""


def catch_up(
    rule: str,
    numbers: Sequence[float],
    workspace: Workspace,
    blocks: Sequence[Array],
    last: Steps,
    step: int,
) -> None:
    """Lets rows have all steps up to ``step``, with a gradient of zero.

    Args:
        rule: One that has the mode "catch_up".
        numbers: Its settings.
        workspace: Of the dtype of the blocks.
        blocks: The value and the slots, ``[rows, width]`` each, changed in place.
        last: The last step that each row has had, ``[rows]``, not above ``step``.
        step: The step after which they are wanted.
    """
    if rule == "momentum":
        _catch_up_momentum(rounded_settings(rule, numbers, 1, workspace.dtype), blocks, step - last)
    else:
        _catch_up_adam(rule, numbers, workspace, blocks, last, step)


def _catch_up_momentum(settings: Constants, blocks: Sequence[Array], skipped: Steps) -> None:
    """The sum of a geometric series."""
    value, momentum = blocks
    decay = float(settings["momentum"])
    kept = decay**skipped
    total = skipped * 1.0 if decay == 1.0 else decay * (1.0 - kept) / (1.0 - decay)
    if settings["use_nesterov"]:
        total = total * decay
    value -= (total * float(settings["learning_rate"])).astype(value.dtype)[:, np.newaxis] * momentum
    momentum *= kept.astype(value.dtype)[:, np.newaxis]


def _catch_up_adam(
    rule: str, numbers: Sequence[float], workspace: Workspace, blocks: Sequence[Array], last: Steps, step: int
) -> None:
    """Step by step as long as ``m`` counts, all rows that need it at once; what is left only decays."""
    settings = rounded_settings(rule, numbers, 1, workspace.dtype)
    beta1, beta2 = float(settings["beta1"]), float(settings["beta2"])
    longest = _steps_that_count(beta1, beta2)
    order = np.argsort(last, kind="stable")
    sorted_blocks = [each[order] for each in blocks]
    sorted_last = last[order]
    at = int(sorted_last[0]) + 1 if last.size else step + 1
    while at <= step:
        begin = int(np.searchsorted(sorted_last, at - longest, side="left"))
        end = int(np.searchsorted(sorted_last, at, side="left"))
        if begin == end:  # nobody needs this step: go on with the one that the next row needs
            if begin == sorted_last.size:
                break
            at = int(sorted_last[begin]) + 1
            continue
        _decay_once(rule, numbers, workspace, [each[begin:end] for each in sorted_blocks], at)
        at += 1
    rest = np.maximum(step - sorted_last - longest, 0)
    if rest.any():
        kept = 1.0 - float(settings["learning_rate"]) * float(settings["weight_decay"]) if rule == "adamw" else 1.0
        for block, factor in zip(sorted_blocks, (kept, beta1, beta2), strict=False):
            np.multiply(block, (factor**rest).astype(block.dtype)[:, np.newaxis], out=block)
    for block, each in zip(blocks, sorted_blocks, strict=True):
        block[order] = each


def _decay_once(rule: str, numbers: Sequence[float], workspace: Workspace, blocks: Sequence[Any], at: int) -> None:
    one = elementwise(rule, rounded_settings(rule, numbers, at, workspace.dtype), workspace.dtype)
    run_by_numpy(workspace, one.body, blocks, (workspace.dtype.type(0),), one.constants)


def _steps_that_count(beta1: float, beta2: float) -> int:
    """Returns after how many steps Adam's steps are negligible; they shrink by ``beta1 / sqrt(beta2)`` each time."""
    ratio = beta1 / math.sqrt(beta2) if beta2 else math.inf
    if ratio >= 1.0:
        return 2**62
    return 1 + math.ceil(math.log(_NEGLIGIBLE) / math.log(ratio)) if ratio else 1
