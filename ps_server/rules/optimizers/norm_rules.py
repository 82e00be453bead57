"""Rules that need norms, of rows or of the whole: their steps. The equations are in ``bodies``.

Norms are computed by NumPy in both paths, in a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ps_server.rules.optimizers import bodies
from ps_server.rules.optimizers.application import Application, run_by_numpy
from ps_server.rules.optimizers.blocks import Part
from ps_server.rules.optimizers.compiled_loops import LoopKey
from ps_server.rules.optimizers.constants import Constants, rounded
from ps_server.rules.optimizers.norms import norm, row_sums_of_squares, sum_of_squares


def _lamb(application: Application, settings: Constants) -> None:
    workspace = application.workspace
    decays = rounded((1 - settings["beta1"], 1 - settings["beta2"]), workspace.dtype)
    rests = (1.0 - float(settings["beta1_power"]), 1.0 - float(settings["beta2_power"]))
    constants = rounded((*rests, settings["epsilon"], settings["weight_decay"]), workspace.dtype)
    value_sums, direction_sums = [], []
    loop = application.loop(LoopKey(bodies.moments, 2, 1, len(decays), application.workspace.dtype))
    for part in application.parts():
        value, m, v = application.load(part)
        application.run(bodies.moments, (m, v), (application.gradient_of(part),), decays, loop)
        application.store(part, (value, m, v), which=slice(1, None))
        direction = workspace.spare(0, value.size)
        run_by_numpy(workspace, bodies.lamb_direction, (direction,), (value, m, v), constants)
        room = workspace.doubles(value.size)
        value_sums.append(sum_of_squares(value, room))
        direction_sums.append(sum_of_squares(direction, room))
    norms = norm(value_sums), norm(direction_sums)
    ratio = norms[0] / norms[1] if all(norms) else 1.0
    constants = rounded((float(settings["learning_rate"]) * ratio, *constants), workspace.dtype)
    loop = application.loop(LoopKey(bodies.lamb, 1, 2, len(constants), application.workspace.dtype))
    for part in application.parts():
        value, m, v = application.load(part)
        application.run(bodies.lamb, (value,), (m, v), constants, loop)
        application.store(part, (value, m, v), which=slice(1))


def _lars(application: Application, settings: Constants) -> None:
    workspace, dtype = application.workspace, application.workspace.dtype
    value_sums, gradient_sums = [], []
    for part in application.parts():
        value = application.load(part)[0]
        value_sums.append(sum_of_squares(value, workspace.doubles(value.size)))
        gradient_sums.append(sum_of_squares(application.gradient_of(part), workspace.doubles(value.size)))
    norms = norm(value_sums), norm(gradient_sums)
    decay = float(settings["weight_decay"])
    size = norms[1] + decay * norms[0] + float(settings["epsilon"])
    ratio = float(settings["eeta"]) * norms[0] / size if all(norms) else 1.0
    rate = float(settings["learning_rate"]) * ratio
    constants = rounded((rate, settings["momentum"], settings["weight_decay"]), dtype)
    body = bodies.nesterov_lars if settings["use_nesterov"] else bodies.lars
    loop = application.loop(LoopKey(body, 2, 1, len(constants), application.workspace.dtype))
    for part in application.parts():
        blocks = application.load(part)
        application.run(body, blocks, (application.gradient_of(part),), constants, loop)
        application.store(part, blocks)


def _row_wise_adagrad(application: Application, settings: Constants) -> None:
    """``accumulator += mean(gradient**2)`` of each row; its rate is ``rate / (sqrt(accumulator) + epsilon)``.

    Gupta et al., "Training recommender systems at scale", 2021, and FBGEMM's ``EXACT_ROWWISE_ADAGRAD``.
    """
    workspace, width = application.workspace, application.width
    (accumulator,) = application.slots
    for part in application.parts():
        value = workspace.load(0, application.value, part, width)
        gradient = application.gradient_of(part)
        matrix = gradient.reshape(-1, width)
        squares = row_sums_of_squares(matrix, workspace.doubles(matrix.size))
        np.divide(squares, width, out=squares)
        rates = workspace.spare(0, squares.size)
        np.copyto(rates, squares, casting="unsafe")
        rows = Part(part.begin // width, part.end // width) if part.rows is None else part
        sums = workspace.load(1, accumulator, rows, 1)
        np.add(sums, rates, out=sums)
        np.sqrt(sums, out=rates)
        np.add(rates, settings["epsilon"], out=rates)
        np.divide(settings["learning_rate"], rates, out=rates)
        run_by_numpy(workspace, bodies.moved_by_rows, (value.reshape(-1, width),), (matrix, rates[:, np.newaxis]), ())
        workspace.store(accumulator, rows, 1, sums, None)
        workspace.store(application.value, part, width, value, None)


def _group_ftrl(application: Application, settings: Constants) -> None:
    workspace, width = application.workspace, application.width
    rate, power, l1 = (
        settings[each] for each in ("learning_rate", "learning_rate_power", "l1_regularization_strength")
    )
    threshold = float(settings["l21_regularization_strength"]) * math.sqrt(width)
    twice_l2, tiny = rounded((2 * settings["l2_regularization_strength"], np.finfo(rate.dtype).tiny), workspace.dtype)
    for part in application.parts():
        value, accum, linear = application.load(part)
        gradient = application.gradient_of(part)
        run_by_numpy(workspace, bodies.group_ftrl_sums, (accum, linear), (value, gradient), (rate, -power))
        pull = workspace.spare(0, value.size)
        run_by_numpy(workspace, bodies.group_ftrl_pull, (pull,), (linear,), (l1,))
        norms = row_sums_of_squares(pull.reshape(-1, width), workspace.doubles(pull.size))
        np.sqrt(norms, out=norms)
        np.maximum(norms, np.finfo(np.float64).tiny, out=norms)
        np.divide(threshold, norms, out=norms)
        np.subtract(1.0, norms, out=norms)
        np.maximum(norms, 0.0, out=norms)
        kept = workspace.spare(1, norms.size)
        np.copyto(kept, norms, casting="unsafe")
        shape = (-1, width)
        run_by_numpy(
            workspace,
            bodies.group_ftrl,
            (value.reshape(shape),),
            (accum.reshape(shape), pull.reshape(shape)),
            (rate, twice_l2, tiny, -power, kept[:, np.newaxis]),
        )
        application.store(part, (value, accum, linear))


NORM_RULES: Final[dict[str, Callable[[Application, Constants], Any]]] = {
    "lamb": _lamb,
    "lars": _lars,
    "row_wise_adagrad": _row_wise_adagrad,
    "group_ftrl": _group_ftrl,
}
"""The rules by name; what they do changes the operands of an application in place."""

ROW_RULES: Final = frozenset({"row_wise_adagrad", "group_ftrl"})
"""Rules whose parts have to be whole rows."""
