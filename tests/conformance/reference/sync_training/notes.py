"""What a program writes down: what calls make, what runs give, which errors come, and what the graph has."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

PROGRAMS: dict[str, Callable[[Any, Notes], None]] = {}
LIMIT_MS = 400
"""How long a run may take of which it is known that it waits for ever."""

ATTRIBUTES = (
    *("capacity", "component_types", "container", "dtype", "has_known_shape", "min_after_dequeue", "reduction_type"),
    *("seed", "seed2", "shapes", "shared_name", "Tcomponents", "timeout_ms"),
)


def program(function: Callable[[Any, Notes], None]) -> Callable[[Any, Notes], None]:
    """Adds a program to the list."""
    assert function.__name__ not in PROGRAMS, function.__name__
    PROGRAMS[function.__name__] = function
    return function


class Notes:
    """The notes of one program, each a name with a value.

    Attributes:
        noted: The notes so far.
        session: Where operations run by default: a session of the program's graph, made when it is first needed.
    """

    def __init__(self, tf: Any, graph: Any) -> None:
        self.noted: list[Any] = []
        self._tf, self._graph, self._session = tf, graph, None
        self._seen = 0

    @property
    def session(self) -> Any:
        if self._session is None:
            self._session = self._tf.Session(graph=self._graph)
        return self._session

    def close(self) -> None:
        """Closes the session, if there is one."""
        if self._session is not None:
            self._session.close()

    def value(self, name: str, value: Any) -> None:
        """Notes a value."""
        self.noted.append([name, plain(self._tf, value)])

    def made(self, name: str, call: Callable[[], Any]) -> Any:
        """Notes what a call makes, or its error; returns what it makes."""
        try:
            made = call()
        except Exception as error:  # noqa: BLE001 - it is the answer
            self.noted.append([name, refusal(error)])
            return None
        self.value(name, made)
        return made

    def run(self, name: str, fetches: Any, feeds: Any = None, session: Any = None) -> Any:
        """Notes what a run gives, or its error."""
        return self.made(name, lambda: (session or self.session).run(fetches, feeds))

    def waits(self, name: str, fetches: Any, feeds: Any = None, session: Any = None, limit_ms: int = LIMIT_MS) -> None:
        """Notes the error of a run that would wait for ever, when its time is over."""
        options = self._tf.RunOptions(timeout_in_ms=limit_ms)
        self.made(name, lambda: (session or self.session).run(fetches, feeds, options=options))

    def operations(self, name: str, graph: Any = None) -> None:
        """Notes the operations that the graph has and that are not noted yet."""
        graph = graph or self._graph
        operations = graph.get_operations()
        self.noted.append([name, [described(self._tf, each) for each in operations[self._seen :]]])
        self._seen = len(operations)

    def skip_operations(self) -> None:
        """Leaves out of the next note of operations those that there are already."""
        self._seen = len(self._graph.get_operations())


def described(tf: Any, operation: Any) -> dict[str, Any]:
    """Returns what an operation is: what stands for nothing is left out."""
    facts = {
        "name": operation.name,
        "type": operation.type,
        "inputs": [each.name for each in operation.inputs],
        "waits_for": [each.name for each in operation.control_inputs],
        "device": operation.device,
        "outputs": [[each.dtype.name, _sizes(each.shape)] for each in operation.outputs],
    }
    if operation.type.startswith(("FIFO", "Padding", "Random", "Priority", "Queue")) or "Accumulator" in operation.type:
        present = set(operation.node_def.attr)
        facts |= {key: _attribute(tf, operation.get_attr(key)) for key in ATTRIBUTES if key in present}
    colocated = [each.decode() for each in operation.colocation_groups() if each.decode() != f"loc:@{operation.name}"]
    facts |= {"beside": colocated} if colocated else {}
    return {key: each for key, each in facts.items() if each not in ([], "")}


def _attribute(tf: Any, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_attribute(tf, each) for each in value]
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, tf.DType):
        return value.name
    if hasattr(value, "unknown_rank"):
        return None if value.unknown_rank else [each.size for each in value.dim]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _sizes(shape: Any) -> Any:
    return None if shape.ndims is None else shape.as_list()


def refusal(error: BaseException) -> dict[str, str]:
    """Returns the class of an error and its message, without places in files and numbers of the process."""
    message = getattr(error, "message", None) or str(error)
    message = re.split(r"\n\nOriginal stack trace| Originally defined at:| with these attrs: ", message)[0].removeprefix("Graph execution error:\n\n")
    message = re.sub(r"Detected at node .*?\nNode: '[^']*'\n", "", message, flags=re.DOTALL)
    message = re.sub(r" ?\(defined at [^)]*\)", "", message)
    message = re.sub(r"'_\d+_", "'_N_", message)
    # Which task of a cluster says so first is by chance.
    message = re.sub(r"^(=+\n[A-Z_]+: )?From /job:[^\n]*:\n", "", message)
    message = re.split(r"\nAdditional GRPC|\n[A-Z_]+: From|\n=====", message)[0]
    message = re.sub(r"0x[0-9a-f]{6,}", "0x...", message)
    operation = getattr(getattr(error, "op", None), "name", None)
    return {"error": type(error).__name__, "message": message} | ({"op": operation} if operation else {})


def plain(tf: Any, value: Any) -> Any:
    """Returns a value in the form of JSON: arrays with their dtype, floats with seven digits."""
    if isinstance(value, tf.Operation):
        return {"name": value.name, "type": value.type}
    if isinstance(value, tf.Tensor):
        return {"name": value.name, "type": value.op.type, "dtype": value.dtype.name, "shape": _sizes(value.shape)}
    if isinstance(value, tf.IndexedSlices):
        return {key: plain(tf, getattr(value, key)) for key in ("indices", "values", "dense_shape")}
    if isinstance(value, tf.Variable):
        return {"name": value.name, "dtype": value.dtype.base_dtype.name, "shape": _sizes(value.shape)}
    if isinstance(value, tf.DType):
        return value.name
    if isinstance(value, tf.TensorShape):
        return {"shape": _sizes(value)}
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        return {str(value.dtype) if value.dtype.kind != "O" else "text": _numbers(array.tolist())}
    if isinstance(value, dict):
        return {str(key): plain(tf, each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(tf, each) for each in value]
    if isinstance(value, BaseException):
        return refusal(value)
    return _numbers(value)


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else type(value).__name__
