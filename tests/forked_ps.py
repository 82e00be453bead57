"""Ps tasks of tests that start as copies of a process that has imported everything, in a tenth of the time.

A ps imports for half a second, and for as long again when it first compiles a rule; the tests start hundreds of them.
Here one process imports once, and forks. The copy is a process like any other: a child of the test process, which waits
for it, with its own pid, arguments, environment, standard streams, session and working directory. What it shares with
the process it is a copy of is what ``/proc`` says of its command line and environment.

There is one such process for ps tasks with the environment of the tests, and one for those of a ``LocalCluster``, whose
libraries compute in one thread. Any other program starts as usual; so does a ps whose environment has something else
that an interpreter reads but once, such as ``PYTHONPATH``, and every ps of a module that uses the fixture
``new_interpreters``, since it tests the start itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_MODULE: Final = "ps_server"
"""What is run in copies."""

_IMPORTED: Final = ("ps_server.process.options", "ps_server.process.server", "ps_protocol.command_line.word_wrap")
_READ_AT_START: Final = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "OPENBLAS_", "OMP_", "NUMBA_")
"""Beginnings of the names of environment variables that an interpreter and its libraries read but once."""

_OF_LOCAL_CLUSTERS: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
"""What ``ps_cluster.local.task_environment`` adds of these."""

_PR_SET_CHILD_SUBREAPER: Final = 36
_MAX_REQUEST_BYTES: Final = 1 << 20
_MAX_ANSWER_BYTES: Final = 64
_ANSWER_TIMEOUT_S: Final = 60.0


class CopyingPopen(subprocess.Popen[Any]):
    """``subprocess.Popen``, but a ps is a copy."""

    def _execute_child(self, *details: Any) -> None:
        (args, executable, preexec_fn, close_fds, pass_fds, directory, env, _, _, shell) = details[:10]
        pipes = details[10:16]
        (restore_signals, gid, gids, uid, umask, has_session, process_group) = details[16:]
        usual = (None, None, True, False, True, None, None, None, -1, -1)
        asked = (executable, preexec_fn, close_fds, shell, restore_signals, gid, gids, uid, umask, process_group)
        arguments = _arguments_of_ps(args)
        environment = dict(os.environ if env is None else env)
        parent = _parent_of(environment)
        if arguments is None or asked != usual or pass_fds or parent is None:
            super()._execute_child(*details)  # type: ignore[misc]
            return
        job = {
            "arguments": arguments,
            "directory": os.path.abspath(directory or "."),  # noqa: PTH100 - what it is may be anything
            "environment": environment,
            "has_session": bool(has_session),
            "imports_from_directory": "-P" not in args,
        }
        given = (pipes[0], pipes[3], pipes[5])
        self.pid = parent.copy(job, [own if each == -1 else each for own, each in enumerate(given)])
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _arguments_of_ps(args: object) -> list[str] | None:
    """The arguments in a command line that runs a ps; None if it runs something else."""
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        return None
    words = [os.fsdecode(each) for each in args]
    for start in ([sys.executable, "-m", _MODULE], [sys.executable, "-P", "-m", _MODULE]):
        if words[: len(start)] == start:
            return words[len(start) :]
    return None


class _Parent:
    """A process that is copied. It starts at the first copy, and ends with the test process. Thread-safe."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._environment = environment

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def suits(self, environment: Mapping[str, str]) -> bool:
        """Whether a process with this environment would have read the same at its start."""
        return _read_at_start(environment) == _read_at_start(self._environment)

    def copy(self, job: dict[str, Any], streams: Sequence[int]) -> int:
        """Starts a copy with these standard streams, a child of this process; returns its pid."""
        with _COPYING, _adopting():
            end = self._socket or self._open()
            try:
                socket.send_fds(end, [json.dumps(job).encode()], streams)
                return int(end.recv(_MAX_ANSWER_BYTES))
            except BaseException:
                self.close()  # the next question would get the answer to this one
                raise

    def _open(self) -> socket.socket:
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own.settimeout(_ANSWER_TIMEOUT_S)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAX_REQUEST_BYTES)
        with other:
            self._process = _new_popen(
                [sys.executable, "-P", __file__, str(other.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                env=self._environment,
            )
        self._socket = own
        return own

    def close(self) -> None:
        """Ends it."""
        if self._process is not None and self._socket is not None:
            self._socket.close()
            self._process.wait(_ANSWER_TIMEOUT_S)
            self._process = self._socket = None


_COPYING: Final = threading.Lock()  # guards: parents, the question and answer on the way, and who adopts processes
_PARENTS: Final = (
    _Parent(dict(os.environ)),
    _Parent({**_OF_LOCAL_CLUSTERS, **os.environ}),
)
_new_popen: Final = subprocess.Popen


def _parent_of(environment: Mapping[str, str]) -> _Parent | None:
    """Whose copies have this environment; None if it has to be there when an interpreter starts."""
    return next((each for each in _PARENTS if each.suits(environment)), None)


def parent_pids() -> set[int]:
    """The processes that are copied, as far as they are there."""
    return {each.pid for each in _PARENTS if each.pid is not None}


@contextlib.contextmanager
def copies() -> Iterator[None]:
    """Makes each ps that ``subprocess`` starts a copy."""
    with _popen(CopyingPopen):
        yield


@contextlib.contextmanager
def new_interpreters() -> Iterator[None]:
    """Has ``subprocess`` start them as usual."""
    with _popen(_new_popen):
        yield


@contextlib.contextmanager
def _popen(popen: type[subprocess.Popen[Any]]) -> Iterator[None]:
    before = subprocess.Popen
    subprocess.Popen = popen  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        subprocess.Popen = before  # type: ignore[misc]


def end_parents() -> None:
    """Ends the processes that are copied."""
    for each in _PARENTS:
        each.close()


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Makes this process the parent of processes of its children whose own parent ends."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot adopt the processes that children start")
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Makes copies. Returns in each copy, with what it is to do, and when no more are wanted, with None."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test process, which ends this one
    before = dict(os.environ)
    for name in _IMPORTED:
        importlib.import_module(name)
    if importlib.util.find_spec("numba") is not None:
        importlib.import_module("numba").njit(lambda x: x)(0)  # the first function that it compiles takes the longest
    set_by_imports = {name: value for name, value in os.environ.items() if name not in before}
    gc.collect()
    gc.freeze()  # else the first collection in a copy would write to all that is shared
    while True:
        request, streams, _, _ = socket.recv_fds(requests, _MAX_REQUEST_BYTES, 3)
        if not request:
            return None
        answer, told = os.pipe()
        between = os.fork()
        if between == 0:
            if os.fork() != 0:
                os._exit(0)
            job: dict[str, Any] = json.loads(request)
            signal.signal(signal.SIGINT, handler)
            if job["has_session"]:
                os.setsid()
            os.chdir(job["directory"])
            os.environ.clear()
            os.environ.update(set_by_imports | job["environment"])
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            os.write(told, str(os.getpid()).encode())  # whoever knows it may send signals to it, or to its session
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            return job
        os.waitpid(between, 0)  # from now on the copy is a child of the test process
        for each in (told, *streams):
            os.close(each)
        requests.send(os.read(answer, _MAX_ANSWER_BYTES))
        os.close(answer)


def _run(job: dict[str, Any]) -> None:
    """What an interpreter does that is given a module to run."""
    if job["imports_from_directory"]:
        sys.path.insert(0, job["directory"])
    sys.argv[1:] = job["arguments"]
    runpy.run_module(_MODULE, run_name="__main__", alter_sys=True)


def _main(descriptor: int) -> None:
    with socket.socket(fileno=descriptor) as requests:
        job = _serve(requests)
        if job is not None:
            requests.detach()  # closed in the copy
    if job is not None:
        _run(job)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
