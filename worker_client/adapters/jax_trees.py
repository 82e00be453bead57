"""Pytrees of JAX: a name for each leaf, memory that the cluster reads into, and arrays of JAX made of that."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, Self, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ps_protocol.dtype_traits import DTypeCategory, dtype_category
from ps_protocol.errors import DTypeMismatchError, FailedPreconditionError, InvalidArgumentError, ValueRangeError
from ps_protocol.operations import Array
from worker_client.adapters.parameter_trees import LONE, checked_names, in_order_of, not_too_deep

_ALIGNMENT_BYTES: Final = 64  # XLA uses an array of NumPy in place if it begins at a multiple of that
_OF_64_BITS: Final = ("float64", "int64", "uint64")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.\\>/-]")

# JAX has no public name for it. Without it only what holds tracers is found out.
_NOTHING_IS_TRACED: Final[Callable[[], bool]] = getattr(
    sys.modules.get("jax._src.core"), "trace_state_clean", lambda: True
)

_Copy: TypeAlias = Callable[..., Sequence[Any]]


class JaxTree:
    """The structure of a pytree, and a name for each of its leaves. Immutable, and thread-safe.

    Args:
        structure: JAX's own.
        names: Of the leaves.

    Attributes:
        names: Of the leaves, in the pytree's order: their keys, as ``dense/kernel``. What no variable may be called by
            is "_" there, as "~" in the names of Haiku.
    """

    def __init__(self, structure: Any, names: Sequence[str]):
        self._structure = structure
        self.names: Final = tuple(names)

    @classmethod
    def of(cls, tree: object, what: str) -> tuple[Self, list[Any]]:
        """Returns the structure of a pytree, and its leaves, which that does not hold.

        Args:
            tree: Any pytree.
            what: What errors call it, as "params".

        Raises:
            InvalidArgumentError: There is no leaf, a key is empty, or two leaves have one name.
        """
        pairs, structure = _flattened(tree, what)
        return cls(structure, checked_names([_name_of(path) for path, _ in pairs], what)), [leaf for _, leaf in pairs]

    def leaves_of(self, other: object, what: str) -> dict[str, Any]:
        """Returns the leaves of a pytree like this one by their names; None stands for a leaf that is left out.

        Raises:
            InvalidArgumentError: It lacks leaves, or has others; all are listed.
        """
        with not_too_deep(what):
            leaves, structure = jax.tree_util.tree_flatten(other)
        if structure == self._structure:
            return dict(zip(self.names, leaves, strict=True))
        pairs, _ = _flattened(other, what, is_leaf=lambda each: each is None)
        named = [(_name_of(path), leaf) for path, leaf in pairs]
        # Without what is None where the parameters have none either.
        found = [(name, leaf) for name, leaf in named if leaf is not None or (name or LONE) in self.names]
        return in_order_of(self.names, found, what)

    def rebuilt(self, leaves: Sequence[Any]) -> Any:
        """Returns a pytree of this structure with other leaves, in the order of ``names``."""
        return jax.tree_util.tree_unflatten(self._structure, leaves)


def _flattened(tree: object, what: str, is_leaf: Callable[[Any], bool] | None = None) -> tuple[Any, Any]:
    with not_too_deep(what):
        pairs, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    return pairs, structure


def _name_of(path: Sequence[Any]) -> str | None:
    return "/".join([_NOT_IN_NAMES.sub("_", _key_of(each)) for each in path]) if path else None


def _key_of(entry: Any) -> str:
    """The key of a pytree's node to one of its children, of whichever of JAX's kinds of keys it is."""
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def check_not_traced(what: str) -> None:
    """Makes sure that nothing is being traced on this thread, by which what is done once would be compiled away.

    That is so inside of jit, grad and vmap also where no array is a tracer, as with gradients that are constants there.

    Args:
        what: What errors name, as "pull()".

    Raises:
        InvalidArgumentError: Something is.
    """
    if not _NOTHING_IS_TRACED():
        raise InvalidArgumentError(f"{what} is being traced: call it outside of jit, grad and vmap")


# -- from JAX to the cluster ---------------------------------------------------------------------


def first_value(leaf: Any, name: str) -> Array:
    """Returns new memory with the value of a parameter, which the cluster may read into and JAX may use in place.

    Raises:
        DTypeMismatchError: It is no array of numbers, or one of complex ones.
        ValueRangeError: It is a number that is too large for JAX.
        FailedPreconditionError, InvalidArgumentError: As of ``array_of``.
    """
    if not isinstance(leaf, jax.Array):
        try:
            leaf = jnp.asarray(leaf)  # of the dtype that JAX makes of it
        except OverflowError as error:
            raise ValueRangeError(
                f"parameter {name} is {leaf!r}, which is too large for JAX's integers; give a float, or set "
                f"jax_enable_x64",
                variable=name,
            ) from error
        except (TypeError, ValueError) as error:
            raise DTypeMismatchError(f"parameter {name} is {_no_array(leaf)}", variable=name) from error
    value = array_of(leaf, f"parameter {name}", name)
    if dtype_category(value.dtype) is DTypeCategory.COMPLEX:
        raise DTypeMismatchError(
            f"parameter {name} holds {value.dtype.name}, and gradients are of floats; give its real and imaginary "
            f"parts as two parameters",
            variable=name,
        )
    found = _aligned(value)
    np.copyto(found, value)
    return found


def _no_array(leaf: object) -> str:
    """What something is of which JAX makes no array, and what to do about it."""
    if isinstance(leaf, np.ma.MaskedArray):
        return "a masked array, and JAX has none; fill it first, as with value.filled(0)"
    if isinstance(leaf, np.ndarray):
        return f"an array of {leaf.dtype}, of which JAX makes none; convert it first, as with value.astype('float32')"
    return (
        f"a {type(leaf).__name__}, of which JAX makes no array; take it out of the pytree, or register its type as a "
        f"node"
    )


def array_of(leaf: Any, what: str, name: str) -> Array:
    """Returns an array of JAX as one of NumPy, in the same memory where that is the host's.

    Args:
        leaf: An array of JAX's, whole on this process.
        what: What errors call it.
        name: Of the parameter.

    Raises:
        InvalidArgumentError: It is being traced, or parts of it are in other processes.
        DTypeMismatchError: It holds keys of random numbers.
        FailedPreconditionError: It has been deleted or donated.
    """
    if isinstance(leaf, jax.core.Tracer):
        raise InvalidArgumentError(
            f"{what} is being traced: call share(), pull() and push() outside of jit, grad and vmap, with the arrays "
            f"that they return",
            variable=name,
        )
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
        raise DTypeMismatchError(
            f"{what} holds {leaf.dtype}, which are no numbers; take it out of the pytree, as keys of random numbers "
            f"are each worker's own",
            variable=name,
        )
    if leaf.is_deleted():
        raise FailedPreconditionError(
            f"{what} has been deleted, as by donate_argnums; give an array that still has its value", variable=name
        )
    if not leaf.is_fully_addressable:
        raise InvalidArgumentError(
            f"{what} is divided over several processes of JAX; gather it first, as with "
            f"jax.experimental.multihost_utils.process_allgather",
            variable=name,
        )
    found: Array = np.asarray(leaf)
    return found


def updates_of(leaves: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Returns gradients or deltas as NumPy's arrays in the same memory; None for those that JAX has none of.

    Raises:
        InvalidArgumentError, FailedPreconditionError, DTypeMismatchError: As of ``array_of``.
    """
    return {name: _update_of(leaf, what, name) for name, leaf in leaves.items()}


def _update_of(leaf: Any, what: str, name: str) -> Any:
    if not isinstance(leaf, jax.Array):
        return None if getattr(leaf, "dtype", None) == jax.dtypes.float0 else leaf  # of an integer parameter
    return array_of(leaf, f"{what} of {name}", name)


def _aligned(like: Array) -> Array:
    memory = np.empty(like.nbytes + _ALIGNMENT_BYTES, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT_BYTES
    return memory[begin : begin + like.nbytes].view(like.dtype).reshape(like.shape)


# -- from the cluster to JAX ---------------------------------------------------------------------


class JaxCopies:
    """Makes arrays of JAX of memory that changes. What it has made never changes.

    One compiled function copies all arrays that are on the same devices, straight out of the memory: as fast as memcpy,
    and without what JAX takes to put each array by itself. Thread-safe.

    Args:
        arrays: The memory.
        leaves: The parameters: those that JAX has on devices of the caller's choice get new values on the same ones,
            divided in the same way.
    """

    def __init__(self, arrays: Sequence[Array], leaves: Sequence[Any]):
        self._arrays = arrays
        self._doubles = [index for index, array in enumerate(arrays) if array.dtype.name in _OF_64_BITS]
        shardings = [_sharding_of(leaf) for leaf in leaves]
        groups: dict[Hashable, list[int]] = {}
        for index, sharding in enumerate(shardings):
            groups.setdefault(sharding and frozenset(sharding.device_set), []).append(index)
        self._groups: list[tuple[list[int], _Copy]] = [
            (indices, _copy_to([shardings[index] for index in indices])) for indices in groups.values()
        ]

    def take(self) -> list[Any]:
        """Returns an array of JAX for each array, as it is now.

        Raises:
            InvalidArgumentError: This is being traced.
            FailedPreconditionError: There are doubles, or integers of 64 bits, and JAX has none here.
        """
        made: list[Any] = [None] * len(self._arrays)
        with jax.transfer_guard("allow"):
            for indices, copy in self._groups:
                for index, array in zip(indices, copy(*[self._arrays[index] for index in indices]), strict=True):
                    made[index] = array
        if isinstance(made[0], jax.core.Tracer):
            raise InvalidArgumentError("pull() is being traced: call it outside of jit, grad and vmap")
        jax.block_until_ready(made)  # the memory may change then
        for index in self._doubles:
            if made[index].dtype != self._arrays[index].dtype:
                raise FailedPreconditionError(
                    f"there are parameters of {self._arrays[index].dtype}, and JAX makes {made[index].dtype} of them; "
                    f"pull where jax_enable_x64 is set, as it was for share()"
                )
        return made


def _sharding_of(leaf: Any) -> Any:
    """Where the caller has put an array; None if JAX may choose."""
    return leaf.sharding if isinstance(leaf, jax.Array) and leaf.committed else None


def _copy_to(shardings: Sequence[Any]) -> _Copy:
    def copies(*arrays: Any) -> list[Any]:
        return [jnp.copy(each) for each in arrays]

    made: _Copy = jax.jit(copies) if shardings[0] is None else jax.jit(copies, out_shardings=list(shardings))
    return made
