"""For which state of the ps tasks the chief of sessions has made all ready."""

from __future__ import annotations

import pytest

from ps_protocol.errors import InvalidArgumentError
from ps_server.objects.session_start import SESSION_START


def test_it_says_what_was_said_last() -> None:
    state = SESSION_START.empty({})
    assert SESSION_START.look(state, {}) == {"ready": 0}
    after = SESSION_START.step(state, {"ready": 7})
    assert after == ({"ready": 7}, {})
    assert state == {"ready": 0}
    assert SESSION_START.step({"ready": 7}, {"ready": 7}) == after
    assert SESSION_START.look({"ready": 7}, {}) == {"ready": 7}


@pytest.mark.parametrize("wrong", [{}, {"ready": 0}, {"ready": "7"}, {"ready": True}])
def test_what_is_no_state_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError, match="ready is"):
        SESSION_START.step(SESSION_START.empty({}), wrong)
