"""What saves and restores tell their callers."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from worker_client.checkpoints.counts import Counts

ShowProgress: TypeAlias = Callable[[int, int], None]
"""Called now and then by another thread, with the bytes that are done and those of all."""


@dataclass(frozen=True, slots=True)
class SavedCheckpoint:
    """A checkpoint that was saved.

    Attributes:
        path: Its folder.
        size_bytes: Of its parts, the files that have the values.
        held_s: For how long updates were held back, in seconds.
        step: The training step that it was saved with; None if there was none.
    """

    path: str
    size_bytes: int
    held_s: float
    step: int | None = None

    def __str__(self) -> str:
        return self.path

    def __fspath__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class CopiedCheckpoint:
    """A checkpoint that was written from another, in another form.

    Attributes:
        path: Where it is.
        form: What the form is called.
        names: Of its tensors.
        size_bytes: Of the values of these.
        left_out: For each name of the other that it does not have, why.
        tensorflow_slots: Of its tensors, those that optimizers of TensorFlow 1 keep: variables like others, with which
            the optimizers of ``worker_client.compat.v1`` go on. Those of ``ss.train`` begin anew.
    """

    path: str
    form: str
    names: tuple[str, ...]
    size_bytes: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    tensorflow_slots: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.path

    def __fspath__(self) -> str:
        return self.path


class Outcome(enum.StrEnum):
    """What a restore does with a variable."""

    RESTORED = "restored"
    FRESH = "fresh"
    """The cluster has it and the checkpoint has no value for it: it stays as it is."""
    IGNORED = "ignored"
    """The checkpoint has it, and it was not asked for."""
    DIFFERING = "differing"
    """Both have it, but not alike."""


@dataclass(frozen=True, slots=True)
class RestoredVariable:
    """One row of the table of a restore.

    Attributes:
        name: Of the variable in the cluster; of one that is ignored, in the checkpoint. Partitioned ones are wholes.
        outcome: What becomes of it.
        detail: In words: where its value comes from, or how the two differ.
        is_slot: Whether it is a slot that an optimizer keeps beside a variable.
    """

    name: str
    outcome: Outcome
    detail: str = ""
    is_slot: bool = False


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore has done. As text, a table.

    Attributes:
        path: The folder of the checkpoint.
        step: The training step that it was saved with; None if there was none.
        variables: By outcome, then by name; slots are rows of their own.
        size_bytes: Of the values that were read.
    """

    path: str
    step: int | None
    variables: tuple[RestoredVariable, ...]
    size_bytes: int

    def names(self, outcome: Outcome | str) -> list[str]:
        """The variables with one outcome, slots among them."""
        return [each.name for each in self.variables if each.outcome == outcome]

    @property
    def counts(self) -> Counts:
        """How many variables and slots were restored."""
        restored = [each.is_slot for each in self.variables if each.outcome is Outcome.RESTORED]
        return Counts(restored.count(False), restored.count(True))

    def __str__(self) -> str:
        return table(self.variables)


def table(rows: tuple[RestoredVariable, ...] | list[RestoredVariable]) -> str:
    """Rows as text, aligned."""
    width = max([len(each.name) for each in rows], default=0)
    return "\n".join([f"{each.outcome:9}  {each.name:{width}}  {each.detail}".rstrip() for each in rows])
