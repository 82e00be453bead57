"""What ``connect`` is told: its arguments first, then SHARDSCOPE_* variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ps_protocol.settings import one_of, seconds, setting
from worker_client.transport.selection import TransportChoice

TRANSPORTS: Final[Mapping[str, TransportChoice]] = {each.value: each for each in TransportChoice}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectSettings:
    """The arguments of ``connect`` that the environment may give."""

    transport: TransportChoice = setting("--transport", one_of(TRANSPORTS), "auto")
    ps_grace_s: float = setting("--ps-grace", seconds, "60")
    lease_s: float = setting("--lease", seconds, "10")
