"""One application of a rule: where its operands come from, part by part, and how a body is run on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ps_protocol.operations import Array
from ps_server.rules.optimizers import compiled_loops
from ps_server.rules.optimizers.blocks import Part, Workspace
from ps_server.rules.optimizers.compiled_loops import Loop, LoopKey
from ps_server.rules.optimizers.stochastic_rounding import Rounding
from ps_server.rules.optimizers.tape import Body, recorded


@dataclass(frozen=True, slots=True)
class Application:
    """The operands of one step of a rule.

    Attributes:
        value: C-contiguous.
        slots: C-contiguous.
        width: Elements of a row.
        parts: Yields the parts, the same each time it is called.
        gradient_of: Returns the gradient of a part, ``[n]``; until the next call.
        workspace: Of this thread.
        roundings: How each slot is rounded; None to nearest.
        may_compile: Whether to use compiled loops.
    """

    value: Array
    slots: Sequence[Array]
    width: int
    parts: Callable[[], Iterator[Part]]
    gradient_of: Callable[[Part], Array]
    workspace: Workspace
    roundings: Sequence[Rounding | None]
    may_compile: bool

    def load(self, part: Part) -> list[Array]:
        """Returns the value and the slots of a part, ``[n]`` each."""
        arrays = (self.value, *self.slots)
        return [self.workspace.load(number, each, part, self.width) for number, each in enumerate(arrays)]

    def store(self, part: Part, blocks: Sequence[Array], *, which: slice = slice(None)) -> None:
        """Stores what ``load`` has returned: the value and the slots, or some of them."""
        arrays = list(zip((self.value, *self.slots), blocks, (None, *self.roundings), strict=True))
        for array, block, rounding in arrays[which]:
            self.workspace.store(array, part, self.width, block, rounding)

    def loop(self, key: LoopKey | None) -> Loop | None:
        """Returns a compiled loop, if it is to be used and there is one."""
        return compiled_loops.find(key) if self.may_compile and key is not None else None

    def run(
        self,
        body: Body,
        targets: Sequence[Array],
        reads: Sequence[Array],
        constants: Sequence[Any],
        loop: Loop | None = None,
    ) -> None:
        """Runs a body on blocks, ``[n]`` each: by a loop, or by NumPy."""
        if loop is not None:
            loop(*targets, *reads, tuple(constants))
            return
        run_by_numpy(self.workspace, body, targets, reads, constants)


def run_by_numpy(
    workspace: Workspace, body: Body, targets: Sequence[Array], reads: Sequence[Array], constants: Sequence[Any]
) -> None:
    """Runs a body on blocks of one shape, or what broadcasts to it; the first of ``targets`` has the shape."""
    tape = recorded(body, len(targets), len(targets) + len(reads) + len(constants))
    first = targets[0]
    registers = workspace.registers(tape.num_registers, first.shape, first.size)
    tape.run([*targets, *reads, *constants], registers)


def row_number_of(part: Part, width: int) -> Any:
    """Returns what indexes the rows of a part in an array that has one element for each row."""
    return slice(part.begin // width, part.end // width) if part.rows is None else part.rows
