"""The error that a client gets for a defect in the ps."""

from __future__ import annotations

import logging
from uuid import uuid4

from ps_protocol.errors import InternalError

_LOG = logging.getLogger(__name__)


def internal_error(defect: Exception, task: str, what: str = "the call", *, variable: str = "") -> InternalError:
    """Logs a defect under a number; returns the error for the client, which names that number."""
    error_id = uuid4().hex[:8]
    _LOG.error("error %s: %s failed", error_id, what, exc_info=defect)
    return InternalError(
        f"{what} failed inside the ps; its log has the details under error {error_id}", variable=variable, task=task
    )
