"""The start of workers together: the chief initialises or restores the variables, the others wait for that."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from ps_protocol.errors import DeadlineExceededError, FailedPreconditionError, NotFoundError, StateLostError
from ps_protocol.shared_objects import OBJECTS_PS_TASK
from ps_protocol.training.round_operations import SESSION_KIND
from worker_client.client import Client
from worker_client.connection.retry import Deadline, Reports
from worker_client.objects.training_group import TAKING_PART

_LOG: Final = logging.getLogger(__name__)

READY: Final = "training_session/start"
"""Name of the object that says for which state of the ps tasks the chief has made all ready."""

_EMPTIED: Final = -1
_OF_A_RESTORE: Final = 5
"""Version of the identity of a state that was restored: it follows from that restore. Others are drawn."""

_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.5


def state_of(client: Client) -> int:
    """A number that is another one when a ps task has lost its state, or a checkpoint was restored."""
    stores = " ".join([str(each) for each in _stores(client)])
    return 1 + (int.from_bytes(hashlib.blake2b(stores.encode(), digest_size=8).digest(), "big") >> 2)


def is_ready(client: Client) -> bool:
    """Whether the chief has made ready what the ps tasks have now."""
    return _said(client) == state_of(client)


def is_restored(client: Client) -> bool:
    """Whether somebody has restored a checkpoint of all ps tasks since the chief has made ready what they had."""
    return _said(client) == _EMPTIED and not [each for each in _stores(client) if each.version != _OF_A_RESTORE]


def say_ready(client: Client) -> None:
    """Tells the others, once all that they need is there."""
    client.shared_object(READY, SESSION_KIND, {}).act({"ready": state_of(client)})


def _said(client: Client) -> int:
    """The number that the chief has said; 0 if none has since ps task 0 is there, ``_EMPTIED`` since a restore."""
    try:
        said = client.object_on(OBJECTS_PS_TASK, READY, SESSION_KIND).wait({}, Deadline(0.0))
    except NotFoundError:
        return 0
    except StateLostError:
        raise
    except FailedPreconditionError:
        return _EMPTIED
    return 0 if said is None else int(said["ready"])


def _stores(client: Client) -> list[UUID]:
    """Identities of what the ps tasks have."""
    return [UUID(str(client.fanout.store(ps_task))) for ps_task in range(client.cluster_spec.num_tasks("ps"))]


def wait_until_ready(
    client: Client, connect: Callable[[], Client], timeout_s: float, pause: Callable[[float], None] = time.sleep
) -> Client:
    """Returns a connection to ps tasks that the chief has made ready.

    Args:
        client: A connection; closed if it is not the one that is returned.
        connect: Makes another one.
        timeout_s: How long to wait for the chief, in seconds.
        pause: Waits for so many seconds.

    Raises:
        DeadlineExceededError: The chief has not; it says whether the chief is there.
    """
    deadline, reports, pause_s = Deadline(timeout_s), Reports(), _FIRST_PAUSE_S
    try:
        while not (ready := _is_ready_or_lost(client)):
            if ready is None:  # the chief restores: this connection is of no use any more
                client.close()
                client = connect()
                continue
            elapsed_s = deadline.elapsed_s()
            _check_time(client, deadline)
            if reports.is_due(elapsed_s):
                _LOG.warning(
                    "%s waits for %s to initialise or restore the variables, %.0f s of up to %.0f s",
                    client.task,
                    _chief(client),
                    elapsed_s,
                    timeout_s,
                )
            pause(min(pause_s, deadline.remaining_s()))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            if _is_of_another_state(client):  # a ps may have lost or restored its state since this one has connected
                client.close()
                client = connect()
    except BaseException:
        client.close()
        raise
    return client


def _check_time(client: Client, deadline: Deadline) -> None:
    if not deadline.remaining_s():
        raise DeadlineExceededError(
            f"{client.task} has waited {deadline.timeout_s:g} s for {_chief(client)} to initialise or restore the "
            f"variables; start the chief with the same session, or give wait_timeout_s=",
            retryable=False,
        )


def _is_ready_or_lost(client: Client) -> bool | None:
    try:
        return is_ready(client)
    except StateLostError:
        return None


def _is_of_another_state(client: Client) -> bool:
    """Whether the chief has made ready another state than this connection knows; it asks ps task 0 alone."""
    try:
        return _said(client) not in (0, _EMPTIED, state_of(client))
    except StateLostError:
        return False  # which is told again


def _chief(client: Client) -> str:
    """The chief in words, with when it was last seen."""
    jobs: Any = client.cluster_spec.jobs
    task = next((f"{job}:0" for job in ("chief", "master") if job in jobs), "worker:0")
    part = TAKING_PART.get(client.fanout)
    members = [] if part is None else part.list_members()
    member = next((each for each in members if each.task == task), None)
    if member is None:
        return f"the chief, {task}, which has not joined,"
    seen_s = max(0.0, time.time() - member.last_seen_s)
    return f"the chief, {task} ({member.state.name.lower()}, last seen {seen_s:.1f} s ago),"
