"""Paths and URLs of checkpoints, as users write them. Light: it is imported with the client."""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import urlsplit

from ps_protocol.errors import InvalidArgumentError

OBJECT_STORES: Final = ("s3", "gs", "az")
"""The schemes of URLs of object stores."""

_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII | re.IGNORECASE)
_PATH_OF_URL: Final = re.compile(rf"({'|'.join(OBJECT_STORES)}|file):/(?!/)", re.IGNORECASE)


def is_url(path: str) -> bool:
    """Whether a path is a URL, of whatever kind."""
    return _URL.match(path) is not None


def absolute(path: str | os.PathLike[str]) -> str:
    """Returns a path as a ps task takes it: an absolute path without following links, or a URL in its plain form.

    Raises:
        InvalidArgumentError: It is empty, a URL that cannot be one of checkpoints, or no path can be so.
    """
    text = os.fspath(path)
    if "\0" in text or not _is_utf8(text):
        raise InvalidArgumentError(
            f"{text!r} cannot be the path of a checkpoint: it is not text in UTF-8 without zeros"
        )
    if not text.strip():
        raise InvalidArgumentError(f"the path of a checkpoint is {text!r}; give a folder or a URL")
    if _PATH_OF_URL.match(text):
        raise InvalidArgumentError(
            f"{text} is a URL with one slash only, as pathlib.Path makes it; give the URL as a string"
        )
    if not is_url(text):
        return os.path.abspath(text)  # noqa: PTH100 - without following links
    scheme, where, names = split_url(text)
    return f"{scheme}://{where}" + "".join([f"/{name}" for name in names])


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def split_url(url: str) -> tuple[str, str, list[str]]:
    """Returns the scheme of a URL, its bucket or container, and the names behind that.

    Raises:
        InvalidArgumentError: It cannot be one of checkpoints.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in (*OBJECT_STORES, "file"):
        raise InvalidArgumentError(
            f"checkpoints cannot be kept at {scheme}://; give a folder that all ps tasks share, or a URL that begins "
            f"with s3://, gs:// or az://"
        )
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidArgumentError(f"a {scheme}:// URL of checkpoints cannot be understood: {error}") from None
    if {"@", ":"} & {*parts.netloc} or parts.query or parts.fragment:  # not repeated: it may be a password
        raise InvalidArgumentError(
            f"a {scheme}:// URL of checkpoints has a bucket and names, no user, password, port or query: the endpoint "
            f"and the credentials come from the environment of each process"
        )
    names = parts.path.strip("/").split("/") if parts.path.strip("/") else []
    if bool(parts.netloc) == (scheme == "file") or {"", ".", ".."} & {*names}:
        raise InvalidArgumentError(
            f"{url} cannot be the URL of checkpoints; give one such as s3://BUCKET/NAME, gs://BUCKET/NAME, "
            f"az://CONTAINER/NAME or file:///FOLDER"
        )
    return scheme, parts.netloc, names
