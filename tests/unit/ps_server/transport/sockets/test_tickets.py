from __future__ import annotations

from uuid import UUID

import pytest

from ps_protocol.sockets.frames import TICKET_BYTES
from ps_server.transport.sockets import tickets
from ps_server.transport.sockets.tickets import MAX_TICKETS_PER_CLIENT, TICKET_LIFETIME_S, TicketOffice

CLIENT, OTHER = UUID(int=1), UUID(int=2)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_ticket_is_good_once() -> None:
    office = TicketOffice()
    ticket = office.issue(CLIENT)
    assert len(ticket) == TICKET_BYTES
    assert office.redeem(CLIENT, ticket)
    assert not office.redeem(CLIENT, ticket)
    assert office.num_outstanding == 0


def test_a_guess_is_refused_and_uses_nothing_up() -> None:
    office = TicketOffice()
    ticket = office.issue(CLIENT)
    assert not office.redeem(CLIENT, bytes(TICKET_BYTES))
    assert office.redeem(CLIENT, ticket)


def test_a_ticket_is_good_for_its_own_client_only() -> None:
    office = TicketOffice()
    ticket = office.issue(CLIENT)
    assert not office.redeem(OTHER, ticket)
    assert office.redeem(CLIENT, ticket)


def test_a_ticket_expires() -> None:
    clock = Clock()
    office = TicketOffice(clock)
    early = office.issue(CLIENT)
    clock.now_s += TICKET_LIFETIME_S / 2
    late = office.issue(CLIENT)
    clock.now_s += TICKET_LIFETIME_S / 2
    assert not office.redeem(CLIENT, early)
    assert office.num_outstanding == 1
    assert office.redeem(CLIENT, late)


def test_tickets_differ() -> None:
    office = TicketOffice()
    assert len({office.issue(CLIENT) for _ in range(10)}) == 10


def test_a_client_that_hoards_loses_its_oldest_and_nobody_elses() -> None:
    office = TicketOffice()
    others = office.issue(OTHER)
    own = [office.issue(CLIENT) for _ in range(MAX_TICKETS_PER_CLIENT + 1)]
    assert office.num_outstanding == MAX_TICKETS_PER_CLIENT + 1
    assert not office.redeem(CLIENT, own[0])
    assert office.redeem(CLIENT, own[1])
    assert office.redeem(OTHER, others)


def test_all_tickets_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "MAX_TICKETS", 3)
    office = TicketOffice()
    issued = [(UUID(int=number), office.issue(UUID(int=number))) for number in range(1, 5)]
    assert office.num_outstanding == 3
    assert [office.redeem(*each) for each in issued] == [False, True, True, True]
