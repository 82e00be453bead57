"""The settings of ``connect``: its arguments, else SHARDSCOPE_* variables, else defaults."""

from __future__ import annotations

from dataclasses import dataclass

from ps_protocol.settings import LEASE, POSITIVE_SECONDS, SECONDS, one_of, option, setting
from worker_client.transport.selection import ReadFrom, TransportChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectSettings:
    """Those arguments of ``connect`` that are checked here; the environment may give some of them."""

    operation_timeout_s: float = option("--operation-timeout", POSITIVE_SECONDS, "60")
    connect_timeout_s: float = option("--connect-timeout", POSITIVE_SECONDS, "60")
    transport: TransportChoice = setting("--transport", one_of(TransportChoice, "NAME"), "auto")
    ps_grace_s: float = setting("--ps-grace", SECONDS, "60")
    lease_s: float = setting("--lease", LEASE, "10")
    read_from: ReadFrom = setting("--read-from", one_of(ReadFrom, "NAME"), "primary")
