"""Accumulators of gradients, as TensorFlow 1's conditional accumulators: what is pending is taken all at once.

    state   {"dtype": of the gradients,
             "shape": [size or null, ...] that they have; null if nothing is known of it,
             "reduction": "MEAN" or "SUM",
             "step": a gradient of a step before this one is stale,
             "count": how many gradients are pending,
             "from": [worker, ...] whose they are, as far as pushes say,
             "ticket": who may take: nobody who comes with a lower one,
             "of": what the newest take was for, if that said so,
             "kept": how many gradients of that are kept; 0 if none are any more}
    arrays  nothing without pending gradients; else their sum, or of those for rows:
            the rows int64 [n], of how many gradients each is int32 [n], and their sums [n, ...]
            behind these, likewise, what is kept

A gradient that is stale is dropped, also one of a wrong shape, and so is a second one of a worker that a push names;
the answer says so. A take waits for as many as it is
told, takes all that is pending, and adds one to the step. A mean for rows is that of each row, over the gradients that
have it.

What a take has taken that says for what is kept, until it is released, the step is set, or others are taken. As long as
it is, who comes to finish what another one has begun takes the same again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import ml_dtypes
import numpy as np

from ps_protocol.errors import AbortedError, InvalidArgumentError
from ps_protocol.shared_objects import Array, Computed, Json
from ps_server.objects import fields
from ps_server.objects.array_kind import ArrayObjectKind, ArrayStep, Contents
from ps_server.objects.sparse_sums import merged

_DTYPES: Final = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
_REDUCTIONS: Final = ("MEAN", "SUM")


def _empty(settings: Json) -> Json:
    dtype, reduction, shape = fields.text(settings, "dtype"), fields.text(settings, "reduction"), settings.get("shape")
    if dtype not in _DTYPES:
        raise InvalidArgumentError(f"there is no accumulator of {dtype}; it can be of {', '.join(_DTYPES)}")
    if reduction not in _REDUCTIONS:
        raise InvalidArgumentError(f"reduction is {reduction!r}; it should be {' or '.join(_REDUCTIONS)}")
    sizes = shape if isinstance(shape, list) else []
    wrong = [each for each in sizes if each is not None and (not isinstance(each, int) or each < 0)]
    if (shape is not None and not isinstance(shape, list)) or wrong:
        raise InvalidArgumentError(f"shape is {shape!r}; it should be a list of sizes, null where one is not known")
    return {"dtype": dtype, "shape": shape, "reduction": reduction, "step": 0, "count": 0}


def _step(is_sparse: bool, state: Json, arrays: Sequence[Array], event: Json, tensors: Sequence[Array]) -> ArrayStep:
    do: Any = event.get("do")
    if do != "push" and tensors:
        raise InvalidArgumentError(f"{do!r} comes with {len(tensors)} tensors; it takes none")
    match do:
        case "push":
            return _push(is_sparse, state, arrays, event, tensors)
        case "take":
            return _take(is_sparse, state, arrays, event)
        case "set_step":
            after = {**_fenced(state, event), "step": fields.step(event, "step")}
            return _released(is_sparse, after, arrays), Contents({})
        case "release":
            state = _fenced(state, event)
            is_kept = fields.text(event, "of") == state.get("of")
            return _released(is_sparse, state, arrays) if is_kept else Contents(state, arrays), Contents({})
        case "fence":
            after = _fenced(state, event)
            answer = {"of": state.get("of"), "kept": state.get("kept", 0), "count": state["count"]}
            return Contents(after, arrays), Contents(answer)
    raise fields.unknown("do", do)


def _push(is_sparse: bool, state: Json, arrays: Sequence[Array], event: Json, tensors: Sequence[Array]) -> ArrayStep:
    if fields.step(event, "step") < state["step"]:
        return None, Contents({"stale": True, "step": state["step"], "count": state["count"]})
    worker = event.get("by")
    if worker is not None:
        if fields.text(event, "by") in state.get("from", ()):
            return None, Contents({"duplicate": True, "step": state["step"], "count": state["count"]})
        state = {**state, "from": [*state.get("from", ()), worker]}
    pending, kept = _divided(is_sparse, state, arrays)
    pushed = _pushed_rows(state, pending, event, tensors) if is_sparse else _pushed(state, pending, tensors)
    after = {**state, "count": state["count"] + 1}
    return Contents(after, [*pushed, *kept]), Contents({"stale": False, "step": state["step"], "count": after["count"]})


def _take(is_sparse: bool, state: Json, arrays: Sequence[Array], event: Json) -> ArrayStep:
    state, of = _fenced(state, event), None if event.get("of") is None else fields.text(event, "of")
    pending, kept = _divided(is_sparse, state, arrays)
    if of is not None and of == state.get("of"):
        if not kept:
            raise AbortedError(f"the gradients of step {of} are not kept any more", retryable=False)
        answer = _taken(is_sparse, state, kept, state["kept"])
        return Contents(state, arrays), Contents({"count": state["kept"]}, answer)
    if state["count"] < _required(event):
        return None
    after = {**state, "count": 0, "step": state["step"] + 1}
    for name in ("from", "of", "kept"):
        after.pop(name, None)
    if of is not None:
        after |= {"of": of, "kept": state["count"]}
    answer = _taken(is_sparse, state, pending, state["count"])
    return Contents(after, () if of is None else pending), Contents({"count": state["count"]}, answer)


def _taken(is_sparse: bool, state: Json, arrays: Sequence[Array], count: int) -> list[Array | Computed]:
    """What is answered of the sums of so many gradients."""
    *rows, total = arrays
    divisor: Any = None
    if state["reduction"] == "MEAN":
        divisor = count
        if is_sparse:
            divisor = rows[1].reshape(-1, *[1] * (total.ndim - 1))
    answer: list[Array | Computed] = [total if divisor is None else _quotient(total, divisor)]
    if is_sparse:
        shape = state["shape"]
        if not shape or None in shape:
            shape = [-1, *total.shape[1:]]
        answer = [rows[0], *answer, np.array(shape, np.int64)]
    return answer


def _divided(is_sparse: bool, state: Json, arrays: Sequence[Array]) -> tuple[Sequence[Array], Sequence[Array]]:
    """What is pending, and what is kept."""
    number = (3 if is_sparse else 1) if state["count"] else 0
    return arrays[:number], arrays[number:]


def _released(is_sparse: bool, state: Json, arrays: Sequence[Array]) -> Contents:
    after = {**state, "kept": 0} if "of" in state else state
    return Contents(after, _divided(is_sparse, state, arrays)[0])


def _fenced(state: Json, event: Json) -> Json:
    """The state with the ticket of an event that has one; refuses those that are lower than one that has been there."""
    if event.get("ticket") is None:
        return state
    ticket = fields.whole(event, "ticket")
    if ticket < state.get("ticket", 0):
        raise AbortedError(
            f"another task takes the gradients now (ticket {state['ticket']}, and {ticket} has come)", retryable=False
        )
    return state if ticket == state.get("ticket", 0) else {**state, "ticket": ticket}


def _quotient(total: Array, divisor: Any) -> Computed:
    def fill(out: Array) -> None:
        with np.errstate(all="ignore"):
            np.divide(total, np.asarray(divisor).astype(total.dtype), out=out)

    return Computed(total.dtype, total.shape, fill)


def _required(event: Json) -> int:
    number: Any = event.get("number")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise InvalidArgumentError(f"Argument num_required must be positive, but was {number}; take 1 or more")
    return number


# -- gradients ----------------------------------------------------------------------------------


def _pushed(state: Json, arrays: Sequence[Array], tensors: Sequence[Array]) -> Sequence[Array | Computed]:
    if len(tensors) != 1:
        raise InvalidArgumentError(f"a gradient is one tensor, and {len(tensors)} have come")
    (grad,) = tensors
    _check_dtype(state, grad)
    expected = list(arrays[0].shape) if arrays else state["shape"]
    if expected is not None and not _matches(expected, grad.shape):
        raise InvalidArgumentError(f"Shape mismatch: expected {_sizes(expected)}, got {_sizes(grad.shape)}")
    if not arrays:
        return [grad]

    def fill(out: Array) -> None:
        with np.errstate(all="ignore"):
            np.add(arrays[0], grad, out=out)

    return [Computed(grad.dtype, grad.shape, fill)]


def _pushed_rows(
    state: Json, arrays: Sequence[Array], event: Json, tensors: Sequence[Array]
) -> Sequence[Array | Computed]:
    if len(tensors) != 2:
        raise InvalidArgumentError(f"a gradient for rows is two tensors, rows and values, and {len(tensors)} have come")
    rows, values = tensors
    _check_dtype(state, values)
    _check_rows(state, rows, values)
    _check_shapes(state, arrays, event.get("shape"), values)
    beyond = state["shape"][0] if state["shape"] else None
    if beyond is not None and rows.size and int(rows.max()) >= beyond:
        place = int(np.argmax(rows >= beyond))
        raise InvalidArgumentError(
            f"Shape mismatch: index of slice {place} exceeded limits of shape; index is {rows[place]} exceeded {beyond}"
        )
    if not arrays:
        return [rows, np.ones(len(rows), np.int32), values]
    merge = merged(arrays[0], rows)
    return [merge.rows, merge.counts(arrays[1]), merge.sums(arrays[2], values)]


def _check_rows(state: Json, rows: Array, values: Array) -> None:
    if rows.dtype != np.int64 or rows.ndim != 1:
        raise InvalidArgumentError(
            f"Input indices should be vector but received shape: {_sizes(rows.shape)} of {rows.dtype.name}; they "
            f"should be int64 of one dimension"
        )
    if not values.ndim:
        raise InvalidArgumentError("Values cannot be 0-dimensional; there is one for each row")
    if len(values) != len(rows):
        raise InvalidArgumentError(
            f"Expected {len(rows)} non-empty input values, got {len(values)}; give one for each row"
        )
    if state["shape"] is not None and len(state["shape"]) > values.ndim:
        raise InvalidArgumentError(
            f"Shape mismatch: expected values rank at least {len(state['shape'])}, got {values.ndim}"
        )


def _check_shapes(state: Json, arrays: Sequence[Array], given: Any, values: Array) -> None:
    """Compares the shapes of a gradient, of what is pending, and of the accumulator, as far as each is known."""
    own: list[int | None] = state["shape"] or []
    if given is not None:
        if not isinstance(given, list) or [each for each in given if not isinstance(each, int)]:
            raise InvalidArgumentError(f"shape is {given!r}; it should be a list of sizes")
        if len(own) > len(given):
            raise InvalidArgumentError(f"Shape mismatch: expected shape rank at least {len(own)}, got {len(given)}")
        _check_sizes("shape", 0, own, given)
    _check_sizes("values", 1, own, values.shape)
    if arrays:
        there = arrays[2].shape
        if len(there) != values.ndim:
            raise InvalidArgumentError(f"Shape mismatch: expected values rank {len(there)}, got {values.ndim}")
        _check_sizes("values", 1, there, values.shape)


def _check_sizes(what: str, first: int, expected: Sequence[int | None], given: Sequence[int]) -> None:
    for index, size in enumerate(expected):
        if index >= first and size is not None and size != given[index]:
            raise InvalidArgumentError(f"Shape mismatch: expected {what} dim {index} to be {size}, got {given[index]}")


def _check_dtype(state: Json, grad: Array) -> None:
    if grad.dtype != _DTYPES[state["dtype"]]:
        raise InvalidArgumentError(f"a gradient is {grad.dtype.name}, and those here are {state['dtype']}; cast it")


def _matches(expected: Sequence[int | None], shape: Sequence[int]) -> bool:
    return len(expected) == len(shape) and not [
        1 for size, given in zip(expected, shape, strict=True) if size is not None and size != given
    ]


def _sizes(shape: Sequence[int | None]) -> str:
    return f"[{','.join(['?' if each is None else str(each) for each in shape])}]"


# -- questions ----------------------------------------------------------------------------------


def _look(state: Json, question: Json) -> Json | None:
    asked: Any = question.get("ask")
    match asked:
        case "count":
            return {"count": state["count"], "step": state["step"]}
        case "whose":
            return {"from": state.get("from", [])}
        case "enough":
            is_kept = question.get("of") is not None and question["of"] == state.get("of")
            return {} if is_kept or state["count"] >= _required(question) else None
    raise fields.unknown("ask", asked)


ACCUMULATOR: Final = ArrayObjectKind(empty=_empty, step=partial(_step, False), look=_look)
SPARSE_ACCUMULATOR: Final = ArrayObjectKind(empty=_empty, step=partial(_step, True), look=_look)
