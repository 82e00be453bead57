"""Networks of their own for processes: one joined to the test's by a cable that can be pulled out, and several hosts
between which a router loses what it is told to lose.

Their addresses are of the block for benchmarks (RFC 2544), which no real network uses.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from types import TracebackType
from typing import Final, Self

import pytest

_PREFIX_BITS: Final = 30
_BLOCK_ADDRESSES: Final = 32  # four for each of up to eight hosts
_BLOCK_BITS: Final = 27


class OtherNetwork:
    """A network namespace at the other end of a virtual cable; a test without the right to make one is skipped.

    Attributes:
        host: Address of the ps in it.
    """

    def __init__(self) -> None:
        number = os.getpid()
        self._name = f"ss{number}"
        self._near, self._far = f"ss{number}a", f"ss{number}b"
        block = f"198.18.{number >> 6 & 255}"
        first = (number & 63) * 4
        self._own_host, self.host = f"{block}.{first + 1}", f"{block}.{first + 2}"

    @property
    def command(self) -> tuple[str, ...]:
        """What runs a Python program in it."""
        return (*_inside(self._name), sys.executable)

    def pull_out(self) -> None:
        """Loses every packet from now on, both ways; nobody is told."""
        self._inside("ip", "link", "set", self._far, "down")

    def plug_in(self) -> None:
        """Carries packets again."""
        self._inside("ip", "link", "set", self._far, "up")

    def __enter__(self) -> Self:
        _make_namespace(self._name)
        try:
            self._join()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _join(self) -> None:
        _run("ip", "link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self._name)
        _run("ip", "address", "add", f"{self._own_host}/{_PREFIX_BITS}", "dev", self._near)
        _run("ip", "link", "set", self._near, "up")
        self._inside("ip", "address", "add", f"{self.host}/{_PREFIX_BITS}", "dev", self._far)
        self.plug_in()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The system would take away the cable of a namespace without processes too, but at some later moment: the next
        # network of this process, of the same name, would find it still there.
        subprocess.run(["ip", "link", "delete", self._near], capture_output=True, check=False)
        _run("ip", "netns", "delete", self._name)

    def _inside(self, *command: str) -> None:
        _run(*_inside(self._name), *command)


class Hosts:
    """Hosts that reach each other and the test through a router; it loses packets as it is told, and tells nobody.

    Each is a network namespace, and so is the router. A test without the right to make one is skipped.

    Args:
        names: Of the hosts; "test" is the test's own.

    Attributes:
        lost: From where to where packets are lost now.
    """

    def __init__(self, *names: str):
        number = os.getpid()
        # Of other test processes, perhaps of another run, there are not 2048 at a time.
        self._block, self._first = f"198.19.{number >> 3 & 255}", (number & 7) * _BLOCK_ADDRESSES
        self._router = f"ssr{number}"
        self._near = f"ssr{number}t"
        self._namespaces = {name: f"ssr{number}h{place}" for place, name in enumerate(names)}
        self._addresses = {
            name: f"{self._block}.{self._first + 4 * place + 2}"
            for place, name in enumerate([*self._namespaces, "test"])
        }
        self.lost: frozenset[tuple[str, str]] = frozenset()

    def address(self, name: str) -> str:
        """Of a host."""
        return self._addresses[name]

    def command(self, name: str) -> tuple[str, ...]:
        """What runs a program on a host."""
        return _inside(self._namespaces[name])

    def lose(self, *ways: tuple[str, str]) -> None:
        """Loses every packet on these ways, from a host to another, and no others."""
        for verb, changed in (("add", frozenset(ways) - self.lost), ("delete", self.lost - frozenset(ways))):
            for source, target in sorted(changed):
                self._at_router(
                    *("ip", "rule", verb, "from", self._addresses[source], "to", self._addresses[target], "blackhole")
                )
        self.lost = frozenset(ways)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as made:
            for namespace in (self._router, *self._namespaces.values()):
                _make_namespace(namespace)
                made.callback(_run, "ip", "netns", "delete", namespace)
            self._at_router("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
            made.callback(subprocess.run, ["ip", "link", "delete", self._near], capture_output=True, check=False)
            for name, address in self._addresses.items():
                self._join(name, address)
            self._made = made.pop_all()
        return self

    def _join(self, name: str, address: str) -> None:
        """Connects a host, or the test, with the router."""
        namespace = self._namespaces.get(name)
        port, cable = f"to_{address.rpartition('.')[2]}", "cable" if namespace else self._near
        gateway = f"{self._block}.{int(address.rpartition('.')[2]) - 1}"
        at_host = self.command(name) if namespace else ()
        netns = ("netns", namespace) if namespace else ("netns", str(os.getpid()))
        self._at_router("ip", "link", "add", port, "type", "veth", "peer", "name", cable, *netns)
        self._at_router("ip", "address", "add", f"{gateway}/{_PREFIX_BITS}", "dev", port)
        self._at_router("ip", "link", "set", port, "up")
        _run(*at_host, "ip", "address", "add", f"{address}/{_PREFIX_BITS}", "dev", cable)
        _run(*at_host, "ip", "link", "set", cable, "up")
        _run(*at_host, "ip", "route", "add", f"{self._block}.{self._first}/{_BLOCK_BITS}", "via", gateway)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._made.close()

    def _at_router(self, *command: str) -> None:
        _run(*_inside(self._router), *command)


def _make_namespace(name: str) -> None:
    """Makes one, or skips the test."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may make a network namespace, and only on Linux")
    if shutil.which("ip") is None:
        pytest.skip("there is no program `ip`; install iproute2")
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no network namespace may be made here: {made.stderr.strip()}")
    _run(*_inside(name), "ip", "link", "set", "lo", "up")


def _inside(namespace: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", namespace)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
