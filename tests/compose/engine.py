"""What the tests need of a container engine: commands with time limits, and one compose project."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

QUICK = 60.0
"""Seconds for a command that only asks or tells the engine something."""

FREEZE_TRIES = 20
COMPOSE_MINIMUM = (2, 20, 2)
"""The first Compose with `depends_on.*.required`, which deploy/compose.yaml needs."""


def run(
    command: Sequence[str], *, timeout: float, check: bool = True, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command; its whole output becomes part of the error when it fails.

    Args:
        command: The program and its arguments.
        timeout: Seconds after which it is killed and the test fails.
        check: Whether an exit code other than 0 is an error.
        environment: Variables to add to those of this process.

    Returns:
        The ended process, with what it wrote.

    Raises:
        AssertionError: If `check` is set and the command failed.
    """
    process = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | (environment or {}),
    )
    if check and process.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit {process.returncode}\n{process.stdout}{process.stderr}")
    return process


def why_no_engine() -> str | None:
    """Returns why there is no container engine to test with, or None if one answers."""
    try:
        answer = run(["docker", "version"], timeout=QUICK, check=False)
    except FileNotFoundError:
        return "no container engine: there is no docker command"
    except subprocess.TimeoutExpired:
        return "no container engine: docker version does not return"
    if answer.returncode != 0:
        return f"no container engine: {answer.stderr.strip()}"
    return None


def find_compose() -> tuple[str, ...] | None:
    """Returns the command that starts a Compose which is new enough, as a plugin or on its own, or None."""
    for command in (("docker", "compose"), ("docker-compose",)):
        try:
            answer = run([*command, "version", "--short"], timeout=QUICK, check=False)
        except FileNotFoundError:
            continue
        version = re.match(r"v?(\d+)\.(\d+)\.(\d+)", answer.stdout)
        if answer.returncode == 0 and version and tuple(map(int, version.groups())) >= COMPOSE_MINIMUM:
            return command
    return None


@dataclass(frozen=True)
class Up:
    """A `docker compose up` that runs in the foreground, as a person would start it."""

    process: subprocess.Popen[bytes]
    output_path: Path

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self.output_path.read_text(errors="replace")

    def shows(self, service: str, text: str) -> bool:
        """Tells whether a service has printed it, without asking the engine, which takes its time."""
        # Compose writes the code that clears the line right before the name: no word begins there.
        return re.search(rf"{re.escape(service)}-\d+ *\|.*{re.escape(text)}", self.output) is not None

    def wait_until(self, condition: Callable[[], bool], *, timeout: float, what: str) -> None:
        """Asks for a condition again and again while the project is up.

        Args:
            condition: What is asked.
            timeout: Seconds after which to give up.
            what: The condition in words, for the error.

        Raises:
            AssertionError: If it does not come about in time, or `up` ends before.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}\n{self.output}"
            assert self.process.poll() is None, f"up has ended, and not yet: {what}\n{self.output}"
            time.sleep(0.1)

    def wait(self, *, timeout: float) -> int:
        """Returns its exit code once it has ended by itself.

        Args:
            timeout: Seconds that it may take.

        Raises:
            AssertionError: If it takes longer.
        """
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"up has not returned within {timeout:g} s:\n{self.output}") from None


@dataclass(frozen=True)
class ComposeProject:
    """One compose project of its own name, so that projects on the same engine do not meet."""

    command: tuple[str, ...]
    file: Path
    name: str
    environment: dict[str, str]

    @property
    def _prefix(self) -> list[str]:
        return [*self.command, "--file", str(self.file), "--project-name", self.name]

    def compose(self, *arguments: str, timeout: float = QUICK, check: bool = True) -> str:
        """Runs a compose command on the project and returns what it wrote to standard output."""
        command = [*self._prefix, *arguments]
        return run(command, timeout=timeout, check=check, environment=self.environment).stdout

    @contextmanager
    def up(self, output_path: Path) -> Iterator[Up]:
        """Brings the project up in the foreground; ends the command, not the containers, on leaving."""
        with output_path.open("wb") as output:
            process = self._start_up(output)
            try:
                yield Up(process, output_path)
            finally:
                process.kill()
                process.wait(QUICK)

    def _start_up(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._prefix, "up"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | self.environment,
        )

    def logs(self, service: str) -> str:
        """Returns what a service has printed; nothing if it has no container yet."""
        return self.compose("logs", "--no-color", "--no-log-prefix", service, check=False)

    def inspect(self, service: str) -> dict[str, Any]:
        """Returns what the engine knows of a service's container; nothing if there is none yet."""
        container = self.compose("ps", "--all", "--quiet", service, check=False).strip()
        if not container:
            return {}
        facts: list[dict[str, Any]] = json.loads(run(["docker", "inspect", container], timeout=QUICK).stdout)
        return facts[0]

    def exit_code(self, service: str) -> int | None:
        """Returns what a service's container ended with, or None while it has not."""
        state = self.inspect(service).get("State", {})
        return int(state["ExitCode"]) if state.get("Status") == "exited" else None

    def kill(self, service: str) -> None:
        """Ends a service's container without a warning."""
        self.compose("kill", "--signal", "KILL", service)

    @contextmanager
    def paused(self, *services: str) -> Iterator[None]:
        """Has services stand still in the block; AssertionError if one has ended before."""
        paused: list[str] = []
        try:
            for service in services:
                self._pause(service)
                paused.append(service)
            yield
        finally:
            self.compose("unpause", *paused)

    def _pause(self, service: str) -> None:
        """Pauses a service; a kernel that is busy may need several tries to freeze a container."""
        for tries_left in reversed(range(FREEZE_TRIES)):
            try:
                self.compose("pause", service)
            except AssertionError as error:
                if not tries_left or "unable to freeze" not in str(error):
                    raise
            else:
                return

    def down(self) -> None:
        """Removes every container, network and volume of the project."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", timeout=120)
