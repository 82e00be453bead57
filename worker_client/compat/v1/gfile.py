"""``tf.gfile``: files of this machine, with TensorFlow 1's functions. There are no other file systems."""
# ruff: noqa: N802 - TensorFlow's names

from __future__ import annotations

import glob as _glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from ps_protocol.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError, PermissionDeniedError
from worker_client.values.left_out import getattr_of

__all__ = [
    "Copy",
    "DeleteRecursively",
    "Exists",
    "FastGFile",
    "GFile",
    "Glob",
    "IsDirectory",
    "ListDirectory",
    "MakeDirs",
    "MkDir",
    "Open",
    "Remove",
    "Rename",
    "Stat",
    "Walk",
]


@contextmanager
def _translated() -> Iterator[None]:
    """Turns the errors of Python's functions for files into TensorFlow's, inside the block."""
    try:
        yield
    except OSError as error:
        raise next(ours for given, ours in _KINDS if isinstance(error, given))(str(error)) from error


_KINDS = (
    (FileNotFoundError, NotFoundError),
    (NotADirectoryError, NotFoundError),
    (FileExistsError, AlreadyExistsError),
    (PermissionError, PermissionDeniedError),
    (OSError, FailedPreconditionError),
)


class GFile:
    """A file, opened when it is first used: text as UTF-8, bytes if there is a "b" in ``mode``.

    Everything that Python's files can do it can do, and ``size()``.

    Raises:
        NotFoundError: On its first use: there is no such file.
        PermissionDeniedError: It may not be opened.
    """

    def __init__(self, name: str | os.PathLike[str], mode: str = "r"):
        self.name = os.fspath(name)
        self.mode = mode
        self._file: IO[Any] | None = None

    def _opened(self) -> IO[Any]:
        if self._file is None:
            with _translated():
                self._file = Path(self.name).open(  # noqa: SIM115 - close() does
                    self.mode, encoding=None if "b" in self.mode else "utf-8"
                )
        return self._file

    def read(self, n: int = -1) -> Any:
        """Returns ``n`` characters or bytes, or all that follow."""
        return self._opened().read(n)

    def write(self, file_content: Any) -> None:
        """Writes text or bytes."""
        self._opened().write(file_content)

    def size(self) -> int:
        """Returns how many bytes the file has."""
        self.flush()
        with _translated():
            return Path(self.name).stat().st_size

    def flush(self) -> None:
        """Hands what was written to the operating system."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Closes the file. May be repeated."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened(), name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._opened())

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


FastGFile = Open = GFile


def Exists(filename: str) -> bool:
    """Whether there is a file or a directory of that name."""
    return Path(filename).exists()


def IsDirectory(dirname: str) -> bool:
    """Whether there is a directory of that name."""
    return Path(dirname).is_dir()


def ListDirectory(dirname: str) -> list[str]:
    """Returns the names in a directory; NotFoundError if there is none."""
    with _translated():
        return [each.name for each in Path(dirname).iterdir()]


def MkDir(dirname: str) -> None:
    """Makes a directory; NotFoundError if that around it is missing, AlreadyExistsError if it exists."""
    with _translated():
        Path(dirname).mkdir()


def MakeDirs(dirname: str) -> None:
    """Makes a directory and those around it, as far as they are missing."""
    with _translated():
        Path(dirname).mkdir(parents=True, exist_ok=True)


def Remove(filename: str) -> None:
    """Deletes a file; NotFoundError if there is none."""
    with _translated():
        Path(filename).unlink()


def DeleteRecursively(dirname: str) -> None:
    """Deletes a directory with all that is in it; NotFoundError if there is none."""
    with _translated():
        shutil.rmtree(dirname)


def Copy(oldpath: str, newpath: str, overwrite: bool = False) -> None:
    """Copies a file; AlreadyExistsError if there is one of the new name and ``overwrite`` is not asked for."""
    with _translated():
        _refuse_existing(newpath, overwrite)
        shutil.copyfile(oldpath, newpath)


def Rename(oldname: str, newname: str, overwrite: bool = False) -> None:
    """Moves a file; AlreadyExistsError if there is one of the new name and ``overwrite`` is not asked for."""
    with _translated():
        _refuse_existing(newname, overwrite)
        Path(oldname).replace(newname)


def _refuse_existing(name: str, overwrite: bool) -> None:
    if not overwrite and Path(name).exists():
        raise AlreadyExistsError(f"{name} exists already; give overwrite=True to replace it")


def Glob(filename: str | list[str]) -> list[str]:
    """Returns the names of the files that match a pattern, or one of several."""
    patterns = [filename] if isinstance(filename, str) else filename
    return [name for pattern in patterns for name in sorted(_glob.glob(pattern))]  # noqa: PTH207 - text


def Stat(filename: str) -> os.stat_result:
    """Returns what the operating system knows of a file, ``length`` under its own name ``st_size``."""
    with _translated():
        return Path(filename).stat()


def Walk(top: str, in_order: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yields each directory below one, with the names of the directories and of the files in it."""
    return os.walk(top, topdown=in_order)


__getattr__ = getattr_of("gfile")
