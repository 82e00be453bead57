"""The settings of ``connect``: its arguments, else SHARDSCOPE_* variables, else defaults."""

from __future__ import annotations

from dataclasses import dataclass

from ps_protocol.settings import SECONDS, one_of, setting
from worker_client.transport.selection import TransportChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectSettings:
    """The arguments of ``connect`` that the environment may give."""

    transport: TransportChoice = setting("--transport", one_of(TransportChoice, "NAME"), "auto")
    ps_grace_s: float = setting("--ps-grace", SECONDS, "60")
    lease_s: float = setting("--lease", SECONDS, "10")
