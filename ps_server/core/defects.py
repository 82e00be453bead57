"""What a client is told of a defect in the ps, whatever way its call came."""

from __future__ import annotations

import logging
from uuid import uuid4

from ps_protocol.errors import InternalError

_LOG = logging.getLogger(__name__)


def internal_error(defect: Exception, task: str) -> InternalError:
    """Logs a defect and returns the error that a client is told instead, with the number under which it is logged."""
    error_id = uuid4().hex[:8]
    _LOG.error("error %s in a call", error_id, exc_info=defect)
    return InternalError(f"the call failed inside the ps; its log has the details under error {error_id}", task=task)
