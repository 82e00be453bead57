"""The start of workers together: the chief initialises or restores the variables, the others wait for that."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ps_protocol.errors import DeadlineExceededError, NotFoundError, StateLostError
from worker_client.client import Client
from worker_client.connection.retry import Deadline, Reports
from worker_client.graph.blocks import device
from worker_client.initializers.standard import Zeros
from worker_client.objects.training_group import TAKING_PART
from worker_client.scopes.variable_scope import get_variable

_LOG: Final = logging.getLogger(__name__)

READY: Final = "training_session/ready"
"""Name of the variable that says for which state of the ps tasks the chief has made all ready."""

_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.5


def state_of(client: Client) -> int:
    """A number that is another one when a ps task has lost its state, or a checkpoint was restored."""
    stores = [str(client.fanout.store(ps_task)) for ps_task in range(client.cluster_spec.num_tasks("ps"))]
    digest = hashlib.blake2b(" ".join(stores).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def is_ready(client: Client) -> bool:
    """Whether the chief has made ready what the ps tasks have now."""
    try:
        return int(client.variable(READY).numpy()) == state_of(client)
    except NotFoundError:
        return False


def say_ready(client: Client) -> None:
    """Tells the others, once all that they need is there."""
    with client.as_default(), device("/job:ps/task:0"):
        ready = get_variable(READY, [], dtype=np.int64, initializer=Zeros(), trainable=False)
    ready.assign(np.int64(state_of(client)))


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
