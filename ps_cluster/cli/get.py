"""``shardscope get``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from ps_cluster.cli.common import one_line_errors, timeout_option
from ps_cluster.cli.questions import cluster_option, cluster_spec
from ps_protocol.dtype_traits import DTypeCategory, dtype_category, dtype_name, is_ml_dtype
from worker_client.client import connect
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.parts import EagerVariable
from worker_client.variables.variable import Variable

_WIDTH: Final = 80
_MOST_SHOWN: Final = 1000
"""Elements above which only the first and the last of each dimension are printed."""

_RANGE: Final = re.compile(r"(-?\d+)|(-?\d+)?:(-?\d+)?", re.ASCII)


_WIDER: Final = {
    DTypeCategory.INTEGER: np.int8,
    DTypeCategory.FLOAT: np.float32,
    DTypeCategory.COMPLEX: np.complex64,
}
"""NumPy's dtypes that hold what ml-dtypes' of the same kind do."""


@click.command()
@click.argument("name", metavar="NAME")
@cluster_option
@click.option("--rows", metavar="A:B,C", help="Only these rows: numbers and ranges, as in 0:10,-1.")
@click.option("--npy", "file", type=click.Path(path_type=Path), metavar="FILE", help="Write it to a file of NumPy's.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all elements.")
@timeout_option(10.0)
def command(
    name: str, cluster: str | None, rows: str | None, file: Path | None, as_json: bool, timeout_s: float
) -> None:
    """Shows the value of a variable of a running cluster; a partitioned one as a whole."""
    with one_line_errors():
        if as_json and file is not None:
            raise ValueError("--json prints the value and --npy writes it to a file; give one")
        spec = cluster_spec(cluster, timeout_s)
        with connect(
            spec, observer=True, connect_timeout_s=timeout_s, operation_timeout_s=timeout_s, ps_grace_s=0
        ) as client:
            variable = client.variable(name)
            whole = variable.whole_spec
            wanted = None if rows is None else _rows(rows, whole.shape, whole.name)
            value = _value(variable, wanted)
            tasks = list(dict.fromkeys(f"ps:{part.ps_task}" for part in _parts(variable)))
        if file is not None:
            value = _in_numpys_dtype(value)
            with file.open("wb") as opened:
                np.save(opened, value, allow_pickle=False)
    dtype = dtype_name(whole.dtype)
    if as_json:
        found = {"name": whole.name, "shape": whole.shape, "dtype": dtype, "tasks": tasks, "value": _in_json(value)}
        click.echo(json.dumps(found, allow_nan=False))
        return
    click.echo(f"{whole.name}  {dtype} {list(whole.shape)}  on {','.join(tasks)}")
    if file is not None:
        click.echo(f"written to {file}: {dtype_name(value.dtype)} {list(value.shape)}")
    else:
        click.echo(np.array2string(value, max_line_width=_WIDTH, threshold=_MOST_SHOWN))


def _parts(variable: EagerVariable) -> list[Variable]:
    return list(variable) if isinstance(variable, PartitionedVariable) else [variable]


def _value(variable: EagerVariable, rows: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]:
    if rows is None:
        return np.asarray(variable.numpy())
    return np.asarray(variable.gather(rows))


def _rows(text: str, shape: tuple[int, ...], name: str) -> np.ndarray[Any, Any]:
    """The rows that ``--rows`` names, in its order."""
    if not shape:
        raise ValueError(f"{name} is a scalar and has no rows; leave --rows away")
    rows: list[int] = []
    for piece in text.split(","):
        match = _RANGE.fullmatch(piece.strip())
        if match is None or not match[0]:
            raise ValueError(f"--rows is {text!r}; it should be numbers and ranges of rows, as in 0:10,-1")
        number, first, last = match.groups()
        if number is None:
            rows += range(shape[0])[int(first) if first else None : int(last) if last else None]
        else:
            row = int(number)
            if not -shape[0] <= row < shape[0]:
                raise ValueError(f"{name} has {_row_numbers(shape[0])}, and no row {row}")
            rows.append(row % shape[0])
    return np.array(rows, np.int64)


def _row_numbers(num_rows: int) -> str:
    return f"the rows 0 to {num_rows - 1}" if num_rows > 1 else "the row 0 alone" if num_rows else "no rows"


def _in_numpys_dtype(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same numbers in a dtype of NumPy's own: bfloat16 and its like are nothing that files or JSON know."""
    if not is_ml_dtype(value.dtype):
        return value
    return value.astype(_WIDER[dtype_category(value.dtype)])


def _in_json(value: np.ndarray[Any, Any]) -> Any:
    """Nested lists: what is no finite number as text, a complex number as its two parts, bytes as text."""
    value = _in_numpys_dtype(value)
    if value.dtype.kind == "c":
        return _in_json(np.stack([value.real, value.imag], axis=-1))
    if value.dtype.kind == "S":
        return np.char.decode(value, "utf-8", "backslashreplace").tolist()
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        return np.where(np.isfinite(value), value.astype(object), value.astype(str)).tolist()
    return value.tolist()
