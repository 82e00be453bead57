"""What is bound to this process: pickling or copying it is refused, with words that say what to do instead."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, SupportsIndex


class NotCopied:
    """Mixin of objects that hold a connection, a graph or processes, of which no copy could make sense.

    ``pickle``, ``copy.copy`` and ``copy.deepcopy`` raise TypeError, and so does whatever pickles: an object that holds
    one of these, ``multiprocessing`` with the "spawn" method.

    A class names both when it is defined, unless it inherits them:

        class Mirror(NotCopied, bound_to="a connection of this process", instead="pass on its values"): ...

    Class Args:
        bound_to: What it belongs to.
        instead: What to do.
    """

    __slots__ = ()

    _bound_to: ClassVar[str]
    _instead: ClassVar[str]

    def __init_subclass__(cls, *, bound_to: str = "", instead: str = "", **others: Any):
        super().__init_subclass__(**others)
        if bound_to:
            cls._bound_to = bound_to
            cls._instead = instead

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        name, kind = getattr(self, "name", None), type(self).__name__
        what = f"{kind} {name!r}" if isinstance(name, str) else f"this {kind}"
        raise TypeError(f"{what} is bound to {self._bound_to} and cannot be pickled or copied; {self._instead}")
