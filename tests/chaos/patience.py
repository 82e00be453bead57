"""Clients that send again soon, so that a reply that was dropped does not cost a test twenty seconds."""

from __future__ import annotations

import functools
from typing import Any
from unittest import mock

import pytest

import worker_client as ss
from worker_client.connection import route as ps_way
from worker_client.connection.retry import RetryPolicy
from worker_client.connection.settings import Settings


def connect_impatiently(*args: Any, attempt_timeout_s: float = 1.0, **kwargs: Any) -> ss.Client:
    """Connects as ``worker_client.connect``, but gives up on an answer, and asks again, after so many seconds."""
    impatient = functools.partial(Settings, retry=RetryPolicy(attempt_timeout_s=attempt_timeout_s))
    with mock.patch("worker_client.client.Settings", impatient):
        return ss.connect(*args, **kwargs)


def ask_impatiently(monkeypatch: pytest.MonkeyPatch, timeout_s: float = 1.0) -> None:
    """Has clients that ask a silent ps whether it is there ask again after so many seconds, instead of two."""
    monkeypatch.setattr(ps_way, "HELLO_TIMEOUT_S", timeout_s)
