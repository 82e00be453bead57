"""Nested structures of arrays, and a name for each array: ``{"conv": [w, b]}`` has ``conv/0`` and ``conv/1``."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Final

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError

LONE: Final = "value"
"""What a leaf is called that is the whole structure."""

_PART: Final = re.compile(r"[A-Za-z0-9_.\\>-]+")


class ParameterTree:
    """The shape of a nested structure: dictionaries, lists, tuples, named tuples and dataclasses; the rest are leaves.

    None stands for no leaf, as in JAX. Immutable, and thread-safe.

    Args:
        tree: The structure.
        what: What errors call it, as "params".
        is_leaf: What counts as a leaf whatever it is.

    Raises:
        InvalidArgumentError: A key is nothing that a variable could be called by, two leaves have one name, or there is
            no leaf.

    Attributes:
        names: Of the leaves, in the structure's order, as ``conv/0``; that of a lone leaf is ``LONE``.
        leaves: What was there.
    """

    def __init__(self, tree: object, what: str, is_leaf: Callable[[object], bool] | None = None):
        self._tree = tree
        self._is_leaf = is_leaf
        self._places: list[tuple[Any, Any, Any, str]] = []  # a container, a key, what it held by that, and the path
        with not_too_deep(what):
            pairs = list(self._walk(tree, None, places=self._places))
        self._paths = frozenset([path for path, _ in pairs])
        self.names: Final = checked_names([path for path, _ in pairs], what)
        self.leaves: Final = tuple([leaf for _, leaf in pairs])

    def leaves_of(self, other: object, what: str) -> dict[str, Any]:
        """Returns the leaves of a structure like this one by their names, in this one's order.

        Args:
            other: As the gradients of the parameters. Where this one has a leaf, all is a leaf there, None too.
            what: What errors call it, as "the gradients".

        Raises:
            InvalidArgumentError: It lacks leaves, or has others; all are listed.
        """
        with not_too_deep(what):
            found = list(self._walk(other, None, self._paths))
        return in_order_of(self.names, found, what)

    def check_unchanged(self, name: str) -> None:
        """Makes sure that the containers still hold what they held, rather than other arrays in their place.

        Args:
            name: What errors call the structure, as the model's name.

        Raises:
            FailedPreconditionError: One holds something else.
        """
        for container, key, held, path in self._places:
            if _held_by(container, key) is not held:
                raise FailedPreconditionError(
                    f"{name}: {path} is no longer what was shared, and pulls read into that; write into the arrays, as "
                    f"with params['w'][...] = value, or share the new ones",
                    variable=path,
                )

    def rebuilt(self, leaves: Sequence[Any]) -> Any:
        """Returns a structure of the same kind with other leaves, in the order of ``names``."""
        return self._rebuilt(self._tree, iter(leaves))

    def _walk(
        self,
        tree: Any,
        path: str | None,
        leaves: Collection[str | None] = (),
        places: list[tuple[Any, Any, Any, str]] | None = None,
    ) -> Iterator[tuple[str | None, Any]]:
        if path in leaves:
            yield path, tree
            return
        if tree is None:
            return
        items = None if self._is_leaf is not None and self._is_leaf(tree) else _items(tree)
        if items is None:
            yield path, tree
            return
        for key, value in items:
            below = f"{key}" if path is None else f"{path}/{key}"
            if places is not None and not isinstance(tree, tuple):
                places.append((tree, key, value, below))
            yield from self._walk(value, below, leaves, places)

    def _rebuilt(self, tree: Any, leaves: Iterator[Any]) -> Any:
        if tree is None:
            return None
        items = None if self._is_leaf is not None and self._is_leaf(tree) else _items(tree)
        if items is None:
            return next(leaves)
        return _like(tree, [(key, self._rebuilt(value, leaves)) for key, value in items])


def _items(tree: Any) -> list[tuple[Any, Any]] | None:
    """What a container holds, by key; None if it is a leaf."""
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return list(zip(tree._fields, tree, strict=True))
    if isinstance(tree, list | tuple):
        return list(enumerate(tree))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    return None


def _held_by(container: Any, key: Any) -> Any:
    """What a container of ``_items`` that can change holds by a key; None if it holds nothing."""
    if isinstance(container, Mapping):
        return container.get(key)
    if isinstance(container, list):
        return container[key] if key < len(container) else None
    return getattr(container, key, None)


def _like(tree: Any, items: Sequence[tuple[Any, Any]]) -> Any:
    """Returns a container of the same kind that holds other things."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*[value for _, value in items])
    if isinstance(tree, list | tuple):
        return type(tree)([value for _, value in items])
    if isinstance(tree, Mapping) and not isinstance(tree, MutableMapping):
        made: Any = type(tree)
        return made(dict(items))
    found = copy.copy(tree)
    for key, value in items:
        if isinstance(found, MutableMapping):
            found[key] = value
        else:
            object.__setattr__(found, key, value)  # of a dataclass that is frozen, too
    return found


@contextlib.contextmanager
def not_too_deep(what: str) -> Iterator[None]:
    """Around a walk through a structure that errors call ``what``.

    Raises:
        InvalidArgumentError: It has taken all of Python's stack.
    """
    try:
        yield
    except (RecursionError, SystemError) as error:
        if not isinstance(error, RecursionError) and not isinstance(error.__cause__, RecursionError):  # as JAX's is
            raise
        raise InvalidArgumentError(
            f"{what} are nested too deeply, or hold themselves; give containers that hold arrays"
        ) from error


def checked_names(paths: Sequence[str | None], what: str) -> tuple[str, ...]:
    """Returns the names of leaves, of which a lone one has none.

    Args:
        paths: The keys on the way to each, with "/" between them; None for a leaf that is the whole structure.
        what: What errors call the structure, as "params".

    Raises:
        InvalidArgumentError: A key is nothing that a variable could be called by, two are one, or there is none.
    """
    if not paths:
        raise InvalidArgumentError(f"{what} hold no arrays: there is nothing to share; give arrays, as {{'w': w}}")
    for path in paths:
        if path is not None:
            check_name(path, what)
    names = _named(paths)
    _check_each_once(names, what)
    return tuple(names)


def in_order_of(names: Sequence[str], pairs: Sequence[tuple[str | None, Any]], what: str) -> dict[str, Any]:
    """Returns leaves in the order of the names.

    Args:
        names: As ``checked_names`` returns them.
        pairs: The leaves, each behind its path.
        what: What errors call them, as "the gradients".

    Raises:
        InvalidArgumentError: Some are missing, or more, which are all listed; or two have one name.
    """
    given = _named([path for path, _ in pairs])
    _check_each_once(given, what)
    found = dict(zip(given, [leaf for _, leaf in pairs], strict=True))
    if found.keys() != set(names):
        lacks = [name for name in names if name not in found]
        only = [name for name in found if name not in names]
        words = [f"lack {', '.join(lacks)}"] * bool(lacks) + [f"have {', '.join(only)} besides"] * bool(only)
        raise InvalidArgumentError(
            f"{what} {' and '.join(words)}; give one for each of the {len(names)} parameters, in the same structure"
        )
    return {name: found[name] for name in names}


def _named(paths: Sequence[str | None]) -> list[str]:
    return [LONE if path is None else path for path in paths]


def _check_each_once(names: Sequence[str], what: str) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgumentError(f"{what} have two leaves that are called {twice}; rename one of their keys")


def check_name(name: str, what: str) -> None:
    """Makes sure that a variable can have a name, whose parts are keys; InvalidArgumentError if not."""
    for part in name.split("/"):
        if not _PART.fullmatch(part):
            raise InvalidArgumentError(
                f"{what} have the key {part!r} on the way to {name!r}, which no variable can be called by; use only "
                f"letters, digits and _ . \\ > -, and no empty keys"
            )
