"""A client of the version before and a ps of this one understand each other, and the other way round.

The bytes of an earlier version are played to a real ps, which has to answer as it did then; and to the real client,
which has to send what it sent then, and to make the same of the answers. Where a recording and this version differ, the
wire has changed: then old and new tasks of one cluster no longer understand each other, and it is not the recording
that is wrong.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ps_protocol.v1 import data_pb2
from tests.compatibility.byte_peers import Asker, RecordedPs
from tests.compatibility.ps_process import running_ps
from tests.compatibility.record import CONVERSATIONS, RAW
from tests.compatibility.recordings import FAR_VERSION, HELLO, METHODS, NEWER, Exchange, load, meaning_of_received
from tests.compatibility.scenario import Client

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", [*CONVERSATIONS, RAW])
def test_a_ps_answers_the_recorded_client_as_it_did_then(name: str) -> None:
    exchanges, _ = load(name)
    with running_ps() as ps, Asker(ps.address) as asker:
        for number, recorded in enumerate(exchanges):
            now = asker.ask(_with_far_version(recorded))
            assert meaning_of_received(now) == meaning_of_received(recorded), f"exchange {number}, {recorded.way}"
        if name == "services":  # which end with a shutdown
            assert ps.wait() == 0


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_client_asks_as_it_did_then_and_understands_the_recorded_ps(name: str) -> None:
    transport, converse = CONVERSATIONS[name]
    exchanges, outcomes = load(name)
    with RecordedPs(exchanges) as ps:
        client = Client(ps.server.address, transport)
        try:
            converse(client)
        finally:
            client.close()
            assert ps.differences == []
        assert ps.num_left == 0
    for number, (recorded, now) in enumerate(zip(outcomes, client.outcomes, strict=True)):
        assert _without_what_is_new(now, recorded) == recorded, f"outcome {number}"


def _with_far_version(recorded: Exchange) -> Exchange:
    """Version 2 was one that no task spoke when this was recorded; now it is another one."""
    if recorded.way != HELLO:
        return recorded
    hello = data_pb2.HelloRequest.FromString(recorded.sent[0])
    if hello.protocol_version == 1:
        return recorded
    hello.protocol_version = FAR_VERSION
    return replace(recorded, sent=(hello.SerializeToString(),))


def _without_what_is_new(now: Any, recorded: Any) -> Any:
    """Leaves out the fields that the recorded version did not have."""
    if isinstance(now, dict) and isinstance(recorded, dict):
        return {key: _without_what_is_new(value, recorded[key]) for key, value in now.items() if key in recorded}
    if isinstance(now, list) and isinstance(recorded, list) and len(now) == len(recorded):
        return [_without_what_is_new(*each) for each in zip(now, recorded, strict=True)]
    return now


def test_every_method_of_the_contract_is_recorded() -> None:
    recorded = {exchange.way for name in CONVERSATIONS for exchange in load(name)[0]}
    of_replication = {method for method in METHODS if ".Replication/" in method}  # test_replication.py
    assert recorded & METHODS == METHODS - of_replication - NEWER
