"""Whether anybody listens at an address."""

from __future__ import annotations

import socket
from typing import Final

_TIMEOUT_S: Final = 1.0


def refuses_connections(address: str) -> bool:
    """Whether connections to "host:port" are refused. One that is slow, or cannot be tried now, is not."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT_S):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
