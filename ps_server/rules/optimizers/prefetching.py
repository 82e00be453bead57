"""Rows on their way from memory while a compiled loop computes with those before them.

Rows of a large table are rarely in the cache, and a loop with a root and a division in it does not reach the next row
before it is through with this one. So it says which row comes, by the processor's instruction for that, which has no
result and cannot fail.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, Final

_LINE_BYTES: Final = 64
_MOST_LINES: Final = 4
"""Of a row; further ones the processor expects by itself."""
_TO_WRITE, _FOR_ALL_LEVELS, _DATA = 1, 3, 1  # arguments of LLVM's prefetch


@functools.cache
def compiled_prefetch() -> Any:
    """Returns a function for compiled loops, ``prefetch(matrix, row)``: this row will be changed soon.

    An intrinsic, not a function that numba compiles: that would count references to the matrix for each row.

    Raises:
        ImportError: numba is not installed.
    """
    ir: Any = importlib.import_module("llvmlite.ir")
    types: Any = importlib.import_module("numba").types
    byte, number, offset = ir.IntType(8), ir.IntType(32), ir.IntType(64)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        matrix = context.make_array(signature.args[0])(context, builder, arguments[0])
        row_bytes = builder.extract_value(matrix.strides, 0)
        row = builder.gep(builder.bitcast(matrix.data, byte.as_pointer()), [builder.mul(row_bytes, arguments[1])])
        shape = ir.FunctionType(ir.VoidType(), [row.type, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [row.type], shape)
        options = [ir.Constant(number, each) for each in (_TO_WRITE, _FOR_ALL_LEVELS, _DATA)]
        last = builder.sub(row_bytes, ir.Constant(offset, 1))
        for line in range(_MOST_LINES):
            at = ir.Constant(offset, line * _LINE_BYTES)
            inside = builder.select(builder.icmp_signed("<", at, last), at, last)
            builder.call(prefetch, [builder.gep(row, [inside]), *options])
        return context.get_dummy_value()

    def prefetch(_typing: Any, matrix: Any, row: Any) -> Any:
        return types.void(matrix, row), write

    return importlib.import_module("numba.extending").intrinsic(prefetch)
