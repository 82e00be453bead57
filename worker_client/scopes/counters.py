"""How often each variable scope has been entered, from which ``default_name`` makes unique names."""

from __future__ import annotations

from typing import TypeAlias


class _Node:
    """Counts for one scope name and, by the next part of their names, those below it.

    Attributes:
        owner: The version of the tree that may change this node.
        count: Entries of the scope.
        free_number: The scopes of this name with a number below this have all been entered.
        below: The nodes of the next part of the name.
    """

    __slots__ = ("below", "count", "free_number", "owner")

    def __init__(self, owner: int):
        self.owner = owner
        self.count = 0
        self.free_number = 1
        self.below: dict[str, _Node] = {}

    def copy(self, owner: int) -> _Node:
        """Returns a node with the same counts for another owner."""
        node = _Node(owner)
        node.count, node.free_number, node.below = self.count, self.free_number, dict(self.below)
        return node


Snapshot: TypeAlias = tuple[_Node, int]
"""The counts at one moment."""


class ScopeCounters:
    """The entries of one thread, by full scope name. Not thread-safe.

    Leaving a scope clears the counts below it, and entering a scope object keeps a copy to go back to, so both must
    cost little even after thousands of scopes. The names therefore form a tree of their parts. A copy is the root
    alone. Its nodes are shared from then on, and a shared node is copied before it is changed. A node belongs to the
    tree as long as its ``owner`` is the present one; every copy begins a new number.
    """

    def __init__(self) -> None:
        self._owner = 0
        self._last_owner = 0
        self._root = _Node(self._owner)

    def count(self, name: str) -> int:
        """Returns how often the scope was entered since the counts above it were last cleared."""
        node = self._find(name)
        return node.count if node else 0

    def increment(self, name: str) -> None:
        """Counts one entry."""
        self._own_node(name).count += 1

    def clear_below(self, name: str) -> None:
        """Forgets the entries of scopes inside this one."""
        node = self._find(name)
        if node is not None and node.below:
            self._own_node(name).below = {}

    def snapshot(self) -> Snapshot:
        """Returns a copy of all counts."""
        copy = (self._root, self._owner)
        self._last_owner += 1
        self._owner = self._last_owner
        return copy

    def restore(self, copy: Snapshot) -> None:
        """Goes back to the counts of a copy, the last one that was taken and not gone back to."""
        self._root, self._owner = copy

    def unique(self, scope_name: str, default_name: str) -> str:
        """Returns ``default_name``, numbered if a scope of that name has been entered under ``scope_name``."""
        prefix = f"{scope_name}/{default_name}" if scope_name else default_name
        if not self.count(prefix):
            return default_name
        node = self._own_node(prefix)
        while self.count(f"{prefix}_{node.free_number}"):
            node.free_number += 1
        return f"{default_name}_{node.free_number}"

    def _find(self, name: str) -> _Node | None:
        node = self._root
        for part in name.split("/"):
            below = node.below.get(part)
            if below is None:
                return None
            node = below
        return node

    def _own_node(self, name: str) -> _Node:
        """The node of a name, made if missing, with all above it free to be changed."""
        owner = self._owner
        if self._root.owner != owner:
            self._root = self._root.copy(owner)
        node = self._root
        for part in name.split("/"):
            below = node.below.get(part)
            if below is None:
                below = node.below[part] = _Node(owner)
            elif below.owner != owner:
                below = node.below[part] = below.copy(owner)
            node = below
        return node
