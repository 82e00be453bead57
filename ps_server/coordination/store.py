"""The interface of a coordination store: small values that processes change by compare-and-set, and watch.

Who is the primary of a replicated ps task is decided here and nowhere else. All that a store must offer is one
compare-and-set register for each key (M. Herlihy, "Wait-Free Synchronization", 1991): of the processes that want to
change the same revision, one does, and the others learn what it wrote. Stores have no leases and no clocks; epochs and
leases are in the values, which a store does not look into.

There are two: ``file_store``, built in, for one machine, and ``etcd_store``. A third may keep each key in a ``Lease``
object of Kubernetes (``coordination.k8s.io/v1``): the value stands in an annotation of its metadata, base64-encoded,
and ``resourceVersion`` is the revision, which for such objects is that of the etcd below. ``read`` is a GET without
``resourceVersion``, which is answered by a quorum; ``compare_and_set`` is a PUT with ``metadata.resourceVersion``, or a
POST for revision 0, and answer 409 is its False; ``watch`` is a GET with ``watch=true``,
``fieldSelector=metadata.name=...`` and ``timeoutSeconds``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

from ps_protocol.errors import InvalidValueError, UnavailableError

MAX_VALUE_BYTES: Final = 64 * 1024
"""Longest value. Stores are for values of some hundred bytes; etcd refuses more than 1.5 MiB."""

BEGIN_AGAIN: Final = (
    "If that cannot be, end all processes that have used it and start them again: they begin without their variables"
)
"""The last resort of who has used a store whose history is gone."""

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,119}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a key holds.

    Attributes:
        value: As it was written.
        revision: Above 0. Every write of the key has a greater one than those before, also after the store was started
            again, and also if the value is the same.
    """

    value: bytes
    revision: int


class CoordinationStore(Protocol):
    """Keys with values that survive, for processes that use the same store and namespace. Thread-safe.

    Every method gives up after ``timeout_s``. The one thing that can take longer is a disk or a name service that holds
    up the operating system itself.

    Attributes:
        name: For messages, as "the coordination store at etcd://127.0.0.1:2379".
    """

    name: str

    def read(self, key: str, *, timeout_s: float) -> Entry | None:
        """Returns what a key holds; None if it was never written. Linearizable: what is written before, it sees.

        Raises:
            UnavailableError: There was no answer in time.
            InvalidValueError: The key is malformed.
        """
        ...

    def compare_and_set(self, key: str, value: bytes, *, revision: int, timeout_s: float) -> tuple[bool, Entry | None]:
        """Writes a value if nobody has written the key since a revision.

        Args:
            key: Which.
            value: At most ``MAX_VALUE_BYTES``.
            revision: That the key must have; 0 if it must never have been written.
            timeout_s: Longest wait.

        Returns:
            True with the new entry; or False with what is there, if the key has another revision. False means that
            nothing was written.

        Raises:
            UnavailableError: There was no answer in time, or none that says whether the value was written. **It may
                have been, and may still be, as long as the key has that revision**: the caller reads to find out.
                Whether or not it has, the same call may be made again: a revision is replaced at most once.
            InvalidValueError: The key is malformed, or the value too long.
        """
        ...

    def watch(self, key: str, *, revision: int, timeout_s: float) -> Entry | None:
        """Waits until a key has another revision.

        It sees the last of several values that are written at short intervals, not each.

        Args:
            key: Which.
            revision: That the caller knows; 0 if it knows that the key was never written.
            timeout_s: Longest wait.

        Returns:
            What is there when the revision is another one; else what is there at the end of the time, which the store
            may take a little earlier than asked for.

        Raises:
            UnavailableError: The store did not say at the end of the time what is there.
            InvalidValueError: The key is malformed.
        """
        ...

    def close(self) -> None:
        """Ends connections and calls of other threads, which raise UnavailableError. May be called again."""
        ...


def check_key(key: str) -> str:
    """Returns a key as it is.

    Raises:
        InvalidValueError: It is none.
    """
    if _KEY.fullmatch(key) is None:
        raise InvalidValueError(
            f"{key!r} is no key of a coordination store; use up to 120 letters, digits and '_.:/-', with a letter or a "
            "digit first"
        )
    return key


def check_value(key: str, value: bytes) -> bytes:
    """Returns a value as it is.

    Raises:
        InvalidValueError: It is too long.
    """
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidValueError(
            f"the value of {key!r} has {len(value)} bytes; a coordination store takes at most {MAX_VALUE_BYTES}"
        )
    return value


def unavailable(store: str, task: str, why: str, remedy: str) -> UnavailableError:
    """Returns (does not raise) the error of a store that did not do something.

    Args:
        store: Its ``name``.
        task: What it did not do, as "read 'ps:0'".
        why: What happened.
        remedy: What to do.
    """
    return UnavailableError(f"{store} did not {task}: {why}; {remedy}")
