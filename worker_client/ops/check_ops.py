"""TensorFlow 1's assertions and checks.

What is known while the graph is built is checked then; the rest when a session runs the operation that is returned, for
example because something else depends on it by ``control_dependencies``. Outside of a deferred graph everything is
checked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from worker_client.deferred.call import call, is_deferred, tensor_or_none
from worker_client.deferred.computed import computed
from worker_client.deferred.operands import of_one_dtype
from worker_client.deferred.sparse_tensor import SparseTensor
from worker_client.graph.blocks import name_scope
from worker_client.graph.computation import Kernel
from worker_client.graph.default_graph import get_default_graph, graph_of
from worker_client.graph.operation import Operation, OutputSpec, Tensor
from worker_client.op_definitions.static_values import constant_value
from worker_client.ops.array_ops import reshape
from worker_client.ops.constant_ops import convert_to_tensor
from worker_client.ops.constant_ops import rank as rank_of
from worker_client.ops.control_flow import no_op, with_dependencies
from worker_client.ops.math_ops import abs as absolute
from worker_client.ops.math_ops import (
    add,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    multiply,
    not_equal,
    reduce_all,
    subtract,
)
from worker_client.values.dtypes import DType, as_dtype, float32
from worker_client.values.made_functions import named, one_of
from worker_client.values.shapes import TensorShape

__all__ = [
    "Assert",
    "assert_equal",
    "assert_greater",
    "assert_greater_equal",
    "assert_integer",
    "assert_less",
    "assert_less_equal",
    "assert_near",
    "assert_negative",
    "assert_non_negative",
    "assert_non_positive",
    "assert_none_equal",
    "assert_positive",
    "assert_proper_iterable",
    "assert_rank",
    "assert_rank_at_least",
    "assert_rank_in",
    "assert_same_float_dtype",
    "assert_scalar",
    "assert_type",
    "check_numerics",
    "get_static_value",
    "is_non_decreasing",
    "is_numeric_tensor",
    "is_strictly_increasing",
    "is_tensor",
    "verify_tensor_all_finite",
]

_SHOWN = 3  # elements of each tensor, if the caller asks for no other number

# -- assertions about elements --------------------------------------------------------------------


def Assert(  # noqa: N802 - TensorFlow's name
    condition: Any, data: Iterable[Any], summarize: int | None = None, name: str | None = None
) -> Operation | None:
    """Makes an operation that fails unless a condition holds.

    Args:
        condition: A truth value.
        data: Texts and tensors that the error shows.
        summarize: How many elements of each it shows; 3 if not given.
        name: Of the scope; "Assert" if not given.

    Returns:
        The operation; None outside of a deferred graph, where it is checked at once.

    Raises:
        InvalidArgumentError: When it runs, or at once: the condition does not hold.
    """
    with name_scope(name, "Assert", [condition, *_tensors(data)]):
        return _asserted(condition, data, summarize, "Merge", "AssertGuard/Merge")


def _asserted(condition: Any, data: Iterable[Any], summarize: int | None, op_type: str, name: str) -> Operation | None:
    inputs = [condition, *data]
    tensors = [tensor_or_none(each) for each in inputs]
    graph = graph_of([each for each in tensors if each is not None])

    def check(*values: Array) -> Array:
        given = iter(values)
        test, *facts = (plain if tensor is None else next(given) for plain, tensor in zip(inputs, tensors, strict=True))
        if not np.all(test):
            raise _failed(facts, summarize)
        return np.asarray(True)

    if not graph.deferred:
        check()
        return None
    operands = [each for each in tensors if each is not None]
    output = OutputSpec(np.dtype(bool), TensorShape([]))
    return graph.create_op(op_type, operands, [output], name=name, computation=Kernel(check))


def _failed(facts: Iterable[Any], summarize: int | None) -> InvalidArgumentError:
    values = [constant_value(each) if isinstance(each, Tensor) else each for each in facts]
    number = _SHOWN if summarize is None else summarize
    shown = " ".join(f"[{summary('?' if each is None else each, number)}]" for each in values)
    return InvalidArgumentError(f"assertion failed: {shown}")


def summary(value: Any, number: int) -> str:
    """Returns the first elements of a value as text; all of them if ``number`` is negative."""
    if isinstance(value, str):
        return value
    flat = np.ravel(np.asarray(value))
    shown = flat if number < 0 else flat[:number]
    texts = [each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in shown.tolist()]
    return " ".join(texts) + ("..." if len(shown) < len(flat) else "")


def _tensors(values: Iterable[Any]) -> list[Any]:
    return [each for each in values if is_deferred(each)]


class _Comparison(Protocol):
    def __call__(
        self,
        x: Any,
        y: Any,
        data: Iterable[Any] | None = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation | None: ...


class _Sign(Protocol):
    def __call__(
        self,
        x: Any,
        data: Iterable[Any] | None = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation | None: ...


def _comparison(
    public_name: str, compare: Callable[..., Any], known: Callable[..., Any], symbol: str, condition: str
) -> _Comparison:
    def operation(
        x: Any,
        y: Any,
        data: Iterable[Any] | None = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation | None:
        if public_name == "assert_equal":
            with name_scope(name, public_name, [x, y]):
                if x is y:
                    return no_op() if is_deferred(x) else None
        with name_scope(name, public_name, [x, y]):
            one, two = convert_to_tensor(x, name="x"), convert_to_tensor(y, name="y")
            words = f"Condition x {symbol} y did not hold element-wise:"
            shown = [words, _equals("x", one), one, _equals("y", two), two] if data is None else data
            facts = [*([message] if message else []), *shown]
            values = [constant_value(each) if isinstance(each, Tensor) else each for each in (one, two)]
            if all(each is not None for each in values) and not np.all(known(*values)):
                raise _failed(facts, summarize)
            return Assert(reduce_all(compare(one, two)), facts, summarize)

    return named(operation, public_name, f"Makes an operation that fails unless {condition}; see ``Assert``.")


def _equals(what: str, value: Any) -> str:
    return f"{what} ({value.name}) = " if isinstance(value, Tensor) else f"{what} = "


assert_equal = _comparison("assert_equal", equal, np.equal, "==", "``x`` and ``y`` are equal everywhere")
assert_none_equal = _comparison("assert_none_equal", not_equal, np.not_equal, "!=", "``x`` and ``y`` are equal nowhere")
assert_less = _comparison("assert_less", less, np.less, "<", "``x`` is less than ``y`` everywhere")
assert_less_equal = _comparison(
    "assert_less_equal", less_equal, np.less_equal, "<=", "``x`` is greater than ``y`` nowhere"
)
assert_greater = _comparison("assert_greater", greater, np.greater, ">", "``x`` is greater than ``y`` everywhere")
assert_greater_equal = _comparison(
    "assert_greater_equal", greater_equal, np.greater_equal, ">=", "``x`` is less than ``y`` nowhere"
)


def _sign(public_name: str, compare: _Comparison, what: str, *, zero_first: bool) -> _Sign:
    def operation(
        x: Any,
        data: Iterable[Any] | None = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation | None:
        with name_scope(name, public_name, [x]):
            operand = convert_to_tensor(x, name="x")
            facts = [*([message] if message else []), f"Condition {what} did not hold element-wise:"]
            facts += [_equals("x", operand), operand]
            zero = np.zeros((), as_dtype(operand.dtype))
            one, two = (zero, operand) if zero_first else (operand, zero)
            return compare(one, two, data=facts if data is None else data, summarize=summarize)

    return named(operation, public_name, f"Makes an operation that fails unless {what} everywhere; see ``Assert``.")


assert_positive = _sign("assert_positive", assert_less, "x > 0", zero_first=True)
assert_negative = _sign("assert_negative", assert_less, "x < 0", zero_first=False)
assert_non_negative = _sign("assert_non_negative", assert_less_equal, "x >= 0", zero_first=True)
assert_non_positive = _sign("assert_non_positive", assert_less_equal, "x <= 0", zero_first=False)


def assert_near(
    x: Any,
    y: Any,
    rtol: Any = None,
    atol: Any = None,
    data: Iterable[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation | None:
    """Makes an operation that fails unless ``abs(x - y) < atol + rtol * abs(y)``; see ``Assert``.

    Args:
        x: Of floats.
        y: Of the same dtype.
        rtol: Ten times the distance of 1 from the next number of the dtype, if not given.
        atol: Likewise.
        data: See ``Assert``.
        summarize: See ``Assert``.
        message: Beginning of the error.
        name: Of the scope; "assert_near" if not given.
    """
    with name_scope(name, "assert_near", [x, y]):
        one, two = of_one_dtype("assert_near", [convert_to_tensor(x, name="x"), convert_to_tensor(y, name="y")])
        least = 10 * np.finfo(as_dtype(one.dtype)).eps
        room = add(least if atol is None else atol, multiply(least if rtol is None else rtol, absolute(two)))
        shown = ["x and y not equal to tolerance", _equals("x", one), one, _equals("y", two), two]
        facts = [*([message] if message else []), *(shown if data is None else data)]
        return Assert(reduce_all(less(absolute(subtract(one, two)), room)), facts, summarize)


# -- assertions about shapes ----------------------------------------------------------------------


def _rank(public_name: str, words: str, fits: Callable[[int, Sequence[int]], bool]) -> Callable[..., Any]:
    def operation(
        x: Any,
        rank: Any,
        data: Iterable[Any] | None = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation | None:
        return _checked_rank(public_name, words, fits, x, [rank], data, summarize, message, name)

    doc = f"Makes an operation that fails unless the rank is {words} ``rank``, or ValueError now; see ``Assert``."
    return named(operation, public_name, doc)


def _checked_rank(
    public_name: str,
    words: str,
    fits: Callable[[int, Sequence[int]], bool],
    x: Any,
    ranks: Sequence[Any],
    data: Iterable[Any] | None,
    summarize: int | None,
    message: str | None,
    name: str | None,
) -> Operation | None:
    with name_scope(name, public_name, [x, *_tensors(ranks)]):
        operand, wanted = convert_to_tensor(x, name="x"), [convert_to_tensor(each, name="rank") for each in ranks]
        ndims = TensorShape(operand.shape).ndims
        values = [constant_value(each) if isinstance(each, Tensor) else each for each in wanted]
        known = [int(each) for each in values if each is not None]
        if ndims is not None and len(known) == len(wanted):
            if not fits(ndims, known):
                raise ValueError(
                    f"{message or ''} the tensor {getattr(operand, 'name', '')} must have rank {words} "
                    f"{', '.join(map(str, known))}, not {ndims}; its shape is {operand.shape}".strip()
                )
            return no_op("static_checks_determined_all_ok") if get_default_graph().deferred else None

        def compare(*sizes: Array) -> Array:
            return np.asarray(fits(int(sizes[0]), [int(each) for each in sizes[1:]]))

        facts = [*([message] if message else []), f"Tensor {operand.name} must have rank {words}", *wanted]
        test = call(
            compare, [rank_of(operand), *wanted], op_type="Equal", output=OutputSpec(np.dtype(bool), TensorShape([]))
        )
        with name_scope("Assert"):
            return _asserted(test, facts if data is None else data, summarize, "Assert", "Assert")


assert_rank = _rank("assert_rank", "equal to", lambda rank, wanted: rank == wanted[0])
assert_rank_at_least = _rank("assert_rank_at_least", "at least", lambda rank, wanted: rank >= wanted[0])


def assert_rank_in(
    x: Any,
    ranks: Iterable[Any],
    data: Iterable[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation | None:
    """Makes an operation that fails unless the rank is one of some; see ``Assert``. ValueError if that is known now."""
    return _checked_rank(
        "assert_rank_in", "in", lambda rank, wanted: rank in wanted, x, list(ranks), data, summarize, message, name
    )


def assert_scalar(tensor: Any, name: str | None = None, message: str | None = None) -> Any:
    """Returns a tensor that is a scalar; ValueError if it is not."""
    with name_scope(name, "assert_scalar", [tensor]) as scope:
        operand = convert_to_tensor(tensor, name=scope)
        if TensorShape(operand.shape).ndims != 0:
            raise ValueError(f"{message or ''} a scalar is expected, not the shape {operand.shape}".strip())
        return operand


# -- assertions about dtypes ----------------------------------------------------------------------


def assert_integer(x: Any, message: str | None = None, name: str | None = None) -> Operation | None:
    """Returns an operation that does nothing; TypeError if the elements are no integers."""
    with name_scope(name, "assert_integer", [x]):
        kind = DType(as_dtype(convert_to_tensor(x, name="x").dtype))
        if not kind.is_integer:
            raise TypeError(f"{message or ''} expected is a type of integers, not {kind.name}".strip())
        return no_op("statically_determined_was_integer") if get_default_graph().deferred else None


def assert_type(tensor: Any, tf_type: Any, message: str | None = None, name: str | None = None) -> Operation | None:
    """Returns an operation that does nothing; TypeError if the dtype is another one."""
    with name_scope(name, "assert_type", [tensor]):
        kind, wanted = DType(as_dtype(convert_to_tensor(tensor, name="tensor").dtype)), DType(as_dtype(tf_type))
        if kind.base_dtype != wanted.base_dtype:
            raise TypeError(f"{message or ''} expected is {wanted.name}, not {kind.name}".strip())
        return no_op("statically_determined_correct_type") if get_default_graph().deferred else None


def assert_same_float_dtype(tensors: Iterable[Any] | None = None, dtype: Any = None) -> DType:
    """Returns the type of floats that tensors have in common; ValueError if they have none, or not ``dtype``."""
    wanted = None if dtype is None else DType(as_dtype(dtype))
    for each in () if tensors is None else tensors:
        kind = DType(as_dtype(each.dtype)).base_dtype
        wanted = kind if wanted is None else wanted
        if kind != wanted:
            raise ValueError(f"{getattr(each, 'name', each)} is {kind.name}, the others are {wanted.name}; cast it")
    found = float32 if wanted is None else wanted
    if not found.is_floating:
        raise ValueError(f"a type of floats is expected, not {found.name}")
    return found


def assert_proper_iterable(values: Any) -> None:
    """Raises TypeError for what only seems to be a list of values: text, an array, a tensor; and for what is none."""
    not_lists = (Tensor, SparseTensor, np.ndarray, bytes, str)
    if isinstance(values, not_lists) or is_deferred(values) or not isinstance(values, Iterable):
        raise TypeError(f"a list or another collection of values is expected, not {values!r}")


# -- other checks ---------------------------------------------------------------------------------


def is_numeric_tensor(tensor: Any) -> bool:
    """Whether something is a deferred tensor of numbers."""
    if not isinstance(tensor, Tensor):
        return False
    kind = DType(as_dtype(tensor.dtype))
    return kind.is_floating or kind.is_integer or kind.is_complex


def is_tensor(x: Any) -> bool:
    """Whether something is a deferred tensor, or stands for one as a variable does."""
    return is_deferred(x) or isinstance(x, SparseTensor)


def is_non_decreasing(x: Any, name: str | None = None) -> Any:
    """Returns whether no element is less than the one before it."""
    with name_scope(name, "is_non_decreasing", [x]):
        return reduce_all(less_equal(*_neighbours(x)))


def is_strictly_increasing(x: Any, name: str | None = None) -> Any:
    """Returns whether each element is greater than the one before it."""
    with name_scope(name, "is_strictly_increasing", [x]):
        return reduce_all(less(*_neighbours(x)))


def _neighbours(x: Any) -> tuple[Any, Any]:
    line = reshape(convert_to_tensor(x, name="x"), [-1])
    return line[:-1], line[1:]


def check_numerics(tensor: Any, message: str, name: str | None = None) -> Any:
    """Returns a tensor whose elements are checked.

    Raises:
        InvalidArgumentError: When it runs: one is infinite or not a number; the error begins with ``message``.
    """

    def checked(array: Array) -> Array:
        wrong = [word for word, test in (("Inf", np.isinf), ("NaN", np.isnan)) if np.any(test(array))]
        if wrong:
            raise InvalidArgumentError(f"{message} : Tensor had {' and '.join(wrong)} values")
        return array

    return computed("CheckNumerics", checked, [tensor], name=name, attributes={"message": message.encode()})


def verify_tensor_all_finite(
    t: Any = None, msg: str | None = None, name: str | None = None, x: Any = None, message: str | None = None
) -> Any:
    """Returns a tensor that is there once ``check_numerics`` has found all its elements finite.

    ``x`` and ``message`` are newer names of ``t`` and ``msg``.
    """
    given = one_of("verify_tensor_all_finite", t=t, x=x)
    words = one_of("verify_tensor_all_finite", msg=msg, message=message)
    with name_scope(name, "VerifyFinite", [given]):
        operand = convert_to_tensor(given, name="x")
        verified = check_numerics(operand, words or "")
        return with_dependencies([verified], operand) if isinstance(operand, Tensor) else verified


def get_static_value(tensor: Any, partial: bool = False) -> Any:
    """Returns the value of a tensor that is known without running it, None if it is not.

    Args:
        tensor: The tensor.
        partial: Ignored: what is known only in part is None.
    """
    del partial
    if not isinstance(tensor, Tensor):
        return np.asarray(tensor)
    value = constant_value(tensor)
    return None if value is None else value.copy()
