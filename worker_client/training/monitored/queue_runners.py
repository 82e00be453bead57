"""``start_queue_runners``, which programs call whether or not they have queues. There are none here."""

from __future__ import annotations

import threading
from typing import Any

from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.keys import GraphKeys
from worker_client.sessions.session import Session, get_default_session
from worker_client.training.monitored.log import LOG
from worker_client.training.monitored.monitored_session import MonitoredSession, SingularMonitoredSession


def start_queue_runners(
    sess: Any = None,
    coord: Any = None,
    daemon: bool = True,
    start: bool = True,
    collection: str = GraphKeys.QUEUE_RUNNERS,
) -> list[threading.Thread]:
    """Starts nothing, since nothing can be queued here, and returns an empty list.

    Args:
        sess: A session; the default one if not given.
        coord: Ignored.
        daemon: Ignored.
        start: Ignored.
        collection: Must have no members.

    Raises:
        ValueError: No session is given, and none is the default.
        TypeError: ``sess`` is no session.
        NotImplementedError: There is something to start.
    """
    del coord, daemon, start
    session = get_default_session() if sess is None else sess
    if session is None:
        raise ValueError(
            "Cannot start queue runners: No default session is registered. Use `with sess.as_default()` or pass an "
            "explicit session to tf.start_queue_runners(sess=sess)"
        )
    if isinstance(session, MonitoredSession | SingularMonitoredSession):
        return []
    if not isinstance(session, Session):
        raise TypeError(f"sess must be a `tf.Session` object. Given class: {type(session)}")
    check_no_queue_runners(get_default_graph().get_collection(collection))
    LOG.warning(
        "`tf.train.start_queue_runners()` was called when no queue runners were defined. You can safely remove the "
        "call to this deprecated function."
    )
    return []


def check_no_queue_runners(runners: list[Any]) -> None:
    """Raises NotImplementedError if there are any."""
    if runners:
        raise NotImplementedError(
            f"{len(runners)} queue runners cannot be started: there are no input pipelines or queues here; read and "
            f"batch in Python, and feed placeholders"
        )
