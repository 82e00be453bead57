"""A network of its own for a ps, joined to the test's by one cable that can be pulled out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from types import TracebackType
from typing import Final, Self

import pytest

_PREFIX_BITS: Final = 30


class OtherNetwork:
    """A network namespace at the other end of a virtual cable; a test without the right to make one is skipped.

    Its addresses are of the block for benchmarks (RFC 2544), which no real network uses.

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
        return ("ip", "netns", "exec", self._name, sys.executable)

    def pull_out(self) -> None:
        """Loses every packet from now on, both ways; nobody is told."""
        self._inside("ip", "link", "set", self._far, "down")

    def plug_in(self) -> None:
        """Carries packets again."""
        self._inside("ip", "link", "set", self._far, "up")

    def __enter__(self) -> Self:
        if sys.platform != "linux" or os.geteuid() != 0:
            pytest.skip("only root may make a network namespace, and only on Linux")
        if shutil.which("ip") is None:
            pytest.skip("there is no program `ip`; install iproute2")
        made = subprocess.run(["ip", "netns", "add", self._name], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"no network namespace may be made here: {made.stderr.strip()}")
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
        self._inside("ip", "link", "set", "lo", "up")
        self.plug_in()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The system would take away the cable of a namespace without processes too, but at some later moment: the next
        # network of this process, of the same name, would find it still there.
        subprocess.run(["ip", "link", "delete", self._near], capture_output=True, check=False)
        _run("ip", "netns", "delete", self._name)

    def _inside(self, *command: str) -> None:
        _run("ip", "netns", "exec", self._name, *command)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
