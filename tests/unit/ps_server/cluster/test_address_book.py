"""Where ps tasks are: the newest announcement of the newest epoch counts, and one that was replaced stays so."""

from __future__ import annotations

from uuid import UUID

import pytest

from ps_protocol.errors import AbortedError, InvalidArgumentError
from ps_protocol.service_types import PsAddress
from ps_server.cluster.address_book import AddressBook

FIRST, SECOND, THIRD = UUID(int=1), UUID(int=2), UUID(int=3)


def address(port: int, incarnation: UUID = FIRST, *, task: str = "ps:1", epoch: int = 0) -> PsAddress:
    return PsAddress(task, f"host:{port}", incarnation, epoch)


@pytest.fixture
def book() -> AddressBook:
    return AddressBook(2)


def test_nothing_is_known_before_it_is_announced(book: AddressBook) -> None:
    assert book.addresses() == []


def test_those_announced_are_listed_by_task(book: AddressBook) -> None:
    book.announce(address(2))
    book.announce(address(1, SECOND, task="ps:0"))
    assert book.addresses() == [address(1, SECOND, task="ps:0"), address(2)]


def test_a_task_that_was_started_again_elsewhere_replaces_its_address(book: AddressBook) -> None:
    book.announce(address(2))
    book.announce(address(3, SECOND))
    book.announce(address(3, SECOND))
    assert book.addresses() == [address(3, SECOND)]


def test_a_process_that_was_replaced_cannot_come_back(book: AddressBook) -> None:
    book.announce(address(2))
    book.announce(address(3, SECOND))
    with pytest.raises(AbortedError, match=r"ps:1 has announced itself at host:3 .* end this one") as refused:
        book.announce(address(2))
    assert not refused.value.retryable
    assert book.addresses() == [address(3, SECOND)]


def test_a_higher_epoch_wins_and_a_lower_one_is_refused(book: AddressBook) -> None:
    book.announce(address(2, epoch=4))
    book.announce(address(3, SECOND, epoch=5))
    for late in (address(2, epoch=4), address(4, THIRD, epoch=4)):
        with pytest.raises(AbortedError, match="epoch 5"):
            book.announce(late)
    book.announce(address(2, epoch=6))  # the same process may be given the role again
    assert book.addresses() == [address(2, epoch=6)]


def test_hearsay_does_not_replace_what_a_task_said_itself_unless_its_epoch_is_newer(book: AddressBook) -> None:
    book.learn(address(1, task="ps:0"))
    book.announce(address(3, SECOND))
    book.learn(address(2, FIRST))
    assert book.addresses() == [address(1, task="ps:0"), address(3, SECOND)]
    book.learn(address(4, THIRD, epoch=1))
    assert book.addresses()[1] == address(4, THIRD, epoch=1)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (address(1, task="ps:2"), "the cluster has 2"),
        (address(1, task="worker:0"), "the cluster has 2"),
        (address(1, task="somebody"), "somebody"),
        (PsAddress("ps:1", "host", FIRST), "no port"),
        (PsAddress("ps:1", "h" * 400 + ":1", FIRST), "400|characters"),
    ],
)
def test_what_cannot_be_is_refused(book: AddressBook, wrong: PsAddress, reason: str) -> None:
    for take in (book.announce, book.learn):
        with pytest.raises(InvalidArgumentError, match=reason):
            take(wrong)
    assert book.addresses() == []


def test_what_an_earlier_process_knew_is_listed_until_more_is_heard_and_not_passed_on() -> None:
    of_first, of_second = address(1, task="ps:0"), address(2)
    book = AddressBook(2, remembered=[of_first, of_second, address(5, task="ps:9")])
    assert (book.addresses(), book.heard()) == ([of_first, of_second], [])
    book.announce(moved := address(4, SECOND, task="ps:0"))
    book.learn(elsewhere := address(3, SECOND))  # heard of now, even if not from itself
    assert book.addresses() == book.heard() == [moved, elsewhere]


def test_each_change_is_remembered_and_nothing_else() -> None:
    remembered: list[list[PsAddress]] = []
    book = AddressBook(2, remember=lambda known: remembered.append(list(known)))
    book.announce(address(2))
    book.announce(address(2))
    book.learn(address(7, THIRD))  # which ps:1 itself knows better
    book.learn(other := address(1, task="ps:0"))
    assert remembered == [[address(2)], [other, address(2)]]
    with pytest.raises(InvalidArgumentError):
        book.announce(address(2, task="ps:2"))
    assert len(remembered) == 2
