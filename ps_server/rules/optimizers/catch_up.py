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
    moved = (total * float(settings["learning_rate"])).astype(value.dtype)[:, np.newaxis] * momentum
    factors = kept.astype(value.dtype)[:, np.newaxis]
    value -= moved  # from here on no memory is taken
    momentum *= factors


def _catch_up_adam(
    rule: str, numbers: Sequence[float], workspace: Workspace, blocks: Sequence[Array], last: Steps, step: int
) -> None:
    """Step by step as long as ``m`` counts, the k-th of all rows at once; what is left only decays."""
    dtype = workspace.dtype
    settings = rounded_settings(rule, numbers, 1, dtype)
    one = elementwise(rule, settings, dtype)
    beta1, beta2 = float(settings["beta1"]), float(settings["beta2"])
    skipped = np.maximum(step - last, 0)
    order = np.argsort(-skipped, kind="stable")
    skipped, last = skipped[order], last[order]
    longest = _steps_that_count(beta1, beta2)
    in_order = [each[order] for each in blocks]
    for k in range(1, min(longest, int(skipped[0])) + 1):
        active = int(np.searchsorted(-skipped, -k, side="right"))
        constants = _constants_of_rows(rule, settings, one.constants, last[:active] + k, dtype)
        run_by_numpy(workspace, one.body, [each[:active] for each in in_order], (dtype.type(0),), constants)
    rest = np.maximum(skipped - longest, 0)
    if rest[0]:
        kept = 1.0 - float(settings["learning_rate"]) * float(settings["weight_decay"]) if rule == "adamw" else 1.0
        for block, factor in zip(in_order, (kept, beta1, beta2), strict=False):
            np.multiply(block, (factor**rest).astype(dtype)[:, np.newaxis], out=block)
    for block, each in zip(blocks, in_order, strict=True):
        block[order] = each


def _constants_of_rows(
    rule: str, settings: Constants, constants: Sequence[Any], steps: Steps, dtype: np.dtype[Any]
) -> list[Any]:
    """Returns the constants of ``bodies.adam`` or ``bodies.adamw``, those that follow from the step for each row."""
    rest1 = 1.0 - float(settings["beta1"]) ** steps
    roots = np.sqrt(1.0 - float(settings["beta2"]) ** steps)
    rates = float(settings["learning_rate"]) / rest1 * (1.0 if rule == "adamw" else roots)
    of_rows = [*constants]
    of_rows[0] = rates.astype(dtype)[:, np.newaxis]
    if rule == "adamw":
        of_rows[-1] = roots.astype(dtype)[:, np.newaxis]
    return of_rows


def _steps_that_count(beta1: float, beta2: float) -> int:
    """Returns after how many steps Adam's steps are negligible; they shrink by ``beta1 / sqrt(beta2)`` each time."""
    ratio = beta1 / math.sqrt(beta2) if beta2 else math.inf
    if ratio >= 1.0:
        return 2**62
    return 1 + math.ceil(math.log(_NEGLIGIBLE) / math.log(ratio)) if ratio else 1
