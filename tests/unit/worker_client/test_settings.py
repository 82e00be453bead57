from __future__ import annotations

import pytest

from ps_protocol.errors import SettingError
from ps_protocol.settings import read
from worker_client.settings import ConnectSettings
from worker_client.transport.selection import ReadFrom, TransportChoice


def transport_choice(name: object, environ: dict[str, str]) -> TransportChoice:
    return ConnectSettings(**read(ConnectSettings, {"transport": name}, environ=environ)).transport


def test_the_transport_is_the_argument_then_the_environment_then_automatic() -> None:
    assert transport_choice("tcp", {"SHARDSCOPE_TRANSPORT": "unix"}) is TransportChoice.TCP
    assert transport_choice(TransportChoice.SHM, {}) is TransportChoice.SHM
    assert transport_choice(None, {"SHARDSCOPE_TRANSPORT": "unix"}) is TransportChoice.UNIX
    assert transport_choice(None, {"SHARDSCOPE_TRANSPORT": ""}) is TransportChoice.AUTO
    assert transport_choice(None, {}) is TransportChoice.AUTO


@pytest.mark.parametrize(
    ("name", "environ", "says"),
    [
        ("carrier pigeon", {}, r"transport is 'carrier pigeon'; it should be one of auto, grpc, socket, tcp"),
        (None, {"SHARDSCOPE_TRANSPORT": "TCP"}, "SHARDSCOPE_TRANSPORT is 'TCP'"),
    ],
)
def test_an_unknown_transport_is_refused(name: str | None, environ: dict[str, str], says: str) -> None:
    with pytest.raises(SettingError, match=says) as refused:
        transport_choice(name, environ)
    assert refused.value.__suppress_context__  # one line, without the library's own errors above it
    assert refused.value.__cause__ is None


def test_times() -> None:
    environ = {"SHARDSCOPE_PS_GRACE": "7.5", "SHARDSCOPE_LEASE": "0"}
    settings = ConnectSettings(**read(ConnectSettings, {"lease_s": 2}, environ=environ))
    assert (settings.ps_grace_s, settings.lease_s) == (7.5, 2.0)
    assert ConnectSettings(**read(ConnectSettings, {}, environ={})) == ConnectSettings()
    assert (ConnectSettings().ps_grace_s, ConnectSettings().lease_s) == (60.0, 10.0)


def test_who_is_read_comes_from_the_argument_else_the_environment_else_the_primary() -> None:
    def chosen(given: str | None, environ: dict[str, str]) -> ReadFrom:
        return ConnectSettings(**read(ConnectSettings, {"read_from": given}, environ=environ)).read_from

    assert chosen(None, {}) is ReadFrom.PRIMARY
    assert chosen(None, {"SHARDSCOPE_READ_FROM": "any"}) is ReadFrom.ANY
    assert chosen("primary", {"SHARDSCOPE_READ_FROM": "any"}) is ReadFrom.PRIMARY
    with pytest.raises(ValueError, match="one of primary, any"):
        chosen("backup", {})
