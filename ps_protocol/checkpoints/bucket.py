"""Requests to a bucket through obstore, each of which has a bound and fails in one sentence without secrets."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from ps_protocol.checkpoints.store import StoreError
from ps_protocol.errors import FailedPreconditionError

Remote: TypeAlias = AzureStore | GCSStore | MemoryStore | S3Store
"""A bucket or container, as obstore has it."""

REQUEST_S: Final = 10
"""Seconds that one request may take, but for uploads."""

UPLOAD_S: Final = 45
"""Seconds that the upload of a piece may take, or that of putting all pieces together, which takes stores a while."""

REPEAT_S: Final = 8
"""Seconds after which a request that fails is not repeated. With ``UPLOAD_S`` it is less than a client waits for an
operation by default, so that what it hears of is the store."""

AT_ONCE: Final = 4
"""Requests that are under way at the same time for one part."""

_T = TypeVar("_T")

_ENVIRONMENT: Final = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, if it is not Amazon's, AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")
_SYSTEM_ERROR: Final = re.compile(r'(?:message|error): "([^"]{1,80})"|(InvalidCertificate|InvalidContentType)')
_IN_WORDS: Final = {
    "InvalidCertificate": "its certificate is not trusted here",
    "InvalidContentType": "it does not speak TLS",
}
_NO_CREDENTIALS: Final = re.compile(
    r"MissingAccount|169\.254\.169\.254|/computeMetadata/|/metadata/identity/|/latest/api/token|/latest/meta-data/"
)
"""In what fails without credentials: who has none asks the machine that he runs on."""

_NO_BUCKET: Final = re.compile(r"NoSuchBucket|ContainerNotFound|specified bucket does not exist")
_SECRET: Final = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|SAS|CREDENTIAL", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """What is known of an object without reading it.

    Attributes:
        key: Its name in the bucket.
        size_bytes: Its size.
        changed_s: When it was written, in seconds since the epoch, by the clock of the store.
        attributes: What it was written with; empty in a list.
    """

    key: str
    size_bytes: int
    changed_s: float
    attributes: dict[str, str]


class Bucket:
    """Objects by their keys. Thread-safe.

    All methods raise ``StoreError`` if the store does not answer or refuses.

    Args:
        url: Of what is used of it, for messages.
        remote: The bucket.
        uploads: The same, with more patience; ``remote`` if not given.

    Attributes:
        is_silent: Whether a request was not answered; then others will hardly be, and each takes its time.
    """

    def __init__(self, url: str, remote: Remote, uploads: Remote | None = None):
        self.url: Final = url
        self.is_silent = False
        self._remote: Final = remote
        self._uploads: Final = remote if uploads is None else uploads

    def put(self, key: str, content: bytes) -> None:
        """Writes an object, or another in its place."""
        with self.errors():
            obstore.put(self._remote, key, content, use_multipart=False)

    def create(self, key: str, content: bytes, attributes: dict[str, str] | None = None) -> bool:
        """Writes an object if there is none of the key; returns whether there was none."""
        with self.errors():
            try:
                obstore.put(self._remote, key, content, mode="create", attributes=attributes)
            except AlreadyExistsError:
                return False
            except NotImplementedError:  # in one step; so in two
                if self.head(key) is not None:
                    return False
                obstore.put(self._remote, key, content, use_multipart=False, attributes=attributes)
            return True

    def get(self, key: str) -> bytes:
        """Reads an object; FileNotFoundError if it is not there."""
        with self.errors():
            return bytes(obstore.get(self._remote, key).bytes())

    def get_range(self, key: str, start: int, size_bytes: int) -> memoryview:
        """Reads some bytes of an object that was there, fewer if it ends before."""
        try:
            with self.errors():
                return memoryview(obstore.get_range(self._remote, key, start=start, length=size_bytes))
        except FileNotFoundError:
            raise StoreError(errno.ENOENT, f"the object {key} is no longer there", self.url) from None

    def head(self, key: str) -> ObjectHead | None:
        """What is known of an object; None if it is not there."""
        try:
            with self.errors():
                found = obstore.get(self._remote, key, options={"head": True})
                return _head(found.meta, found.attributes)
        except FileNotFoundError:  # nor, perhaps, the bucket, which another request says
            return None

    def list_in(self, folder: str) -> list[ObjectHead]:
        """All objects whose keys begin with a folder."""
        with self.errors():
            return [_head(each, {}) for each in obstore.list(self._remote, folder).collect()]

    def folders_in(self, folder: str) -> list[str]:
        """The names of the folders in a folder."""
        with self.errors():
            found = obstore.list_with_delimiter(self._remote, folder or None)["common_prefixes"]
            return [each.rstrip("/").rpartition("/")[2] for each in found]

    def delete(self, keys: list[str]) -> None:
        """Deletes objects; those that are not there are not missed."""
        if not keys:
            return
        try:
            with self.errors():
                obstore.delete(self._remote, keys)
        except FileNotFoundError:  # to some stores that is an error, at which they stop
            for key in keys:
                with contextlib.suppress(FileNotFoundError), self.errors():
                    obstore.delete(self._remote, key)

    def upload(self, key: str, piece_bytes: int) -> Upload:
        """Begins to upload an object in pieces of a size."""
        return Upload(self, self._uploads, key, piece_bytes)

    @contextlib.contextmanager
    def errors(self, bound_s: int | None = None) -> Iterator[None]:
        """Turns what obstore raises into errors of one sentence; its own have bodies of answers in them.

        Args:
            bound_s: On a request; that of most if not given.
        """
        try:
            yield
        except StoreError:
            raise
        except BaseException as error:
            if not _is_failure(error):
                raise
            text = str(error)
            if isinstance(error, FileNotFoundError) and not _NO_BUCKET.search(text):
                raise FileNotFoundError(errno.ENOENT, "there is no such object", self.url) from None
            if not _STATUS.search(text):
                self.is_silent = True
            raise StoreError(errno.EIO, _reason(text, self.url, bound_s or REQUEST_S), self.url) from None


class Upload:
    """One object on its way, ``AT_ONCE`` pieces of it side by side. One thread."""

    def __init__(self, bucket: Bucket, remote: Remote, key: str, piece_bytes: int):
        self._bucket = bucket
        self._key = key
        self._size_bytes = 0
        with bucket.errors(UPLOAD_S):
            self._file: Any = obstore.open_writer(remote, key, buffer_size=piece_bytes, max_concurrency=AT_ONCE)

    def write(self, content: bytes) -> None:
        """Appends bytes; waits for pieces before, if too many are on their way."""
        with self._bucket.errors(UPLOAD_S):
            self._file.write(content)
        self._size_bytes += len(content)

    def close(self) -> None:
        """Returns when the object is there."""
        try:
            with self._bucket.errors(UPLOAD_S):
                self._file.close()
        except FileNotFoundError:  # the answer was lost, and the repeated request finds no upload that is under way
            head = self._bucket.head(self._key)
            if head is None or head.size_bytes != self._size_bytes:
                raise StoreError(
                    errno.EIO, f"the upload of {self._key} was given up by others", self._bucket.url
                ) from None

    def give_up(self, error: BaseException) -> None:
        """Drops what was sent, if the store answers at all."""
        if not self._bucket.is_silent:
            with contextlib.suppress(OSError), self._bucket.errors():
                self._file.__exit__(type(error), error, error.__traceback__)


def connect(scheme: str, name: str, url: str) -> Bucket:
    """Returns a bucket, with the endpoint and credentials of this process's environment; nothing is asked of it yet.

    Args:
        scheme: "s3", "gs" or "az".
        name: Of the bucket or container.
        url: Of what is used of it, for messages.

    Raises:
        FailedPreconditionError: What the environment says cannot be right.
    """
    # Not as options of its client, which would replace all that the environment says of that.
    kinds: dict[str, Callable[..., Remote]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
    retries = {"max_retries": 6, "retry_timeout": timedelta(seconds=REPEAT_S)}

    def remote(bound_s: int) -> Remote:
        bounds: Any = {"timeout": f"{bound_s} seconds", "connect_timeout": "3 seconds"}
        return kinds[scheme](name, config=bounds, retry_config=retries)

    try:
        return Bucket(url, remote(REQUEST_S), remote(UPLOAD_S))
    except BaseException as error:
        if not _is_failure(error):
            raise
        why = _reason(str(error), url, REQUEST_S)
        raise FailedPreconditionError(f"the object store {url} cannot be used: {why}") from None


def side_by_side(work: Callable[[str], _T], keys: Iterable[str]) -> list[_T]:
    """Does something for each key, a few at a time."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="objects") as pool:
        return list(pool.map(work, keys))


def _is_failure(error: BaseException) -> bool:
    """Whether obstore has failed, be it by a panic, which it has for endpoints that are no URLs."""
    return isinstance(error, BaseError | OSError | ValueError) or type(error).__name__ == "PanicException"


def _head(meta: Any, attributes: Any) -> ObjectHead:
    return ObjectHead(meta["path"], meta["size"], meta["last_modified"].timestamp(), dict(attributes))


def _reason(text: str, url: str, bound_s: int) -> str:
    """What has failed and what to do, from the text of an error of obstore."""
    environment = _ENVIRONMENT.get(url.partition("://")[0], "its variables")
    status, code, system = _STATUS.search(text), _CODE.search(text), _SYSTEM_ERROR.search(text)
    answer = f"HTTP {status[1]}{f' {code[1]}' if code else ''}" if status else ""
    if _NO_CREDENTIALS.search(text):
        return f"this process has no credentials for it; set {environment} in its environment"
    if _NO_BUCKET.search(text):
        return "there is no such bucket; correct the URL or the endpoint"
    if status and status[1] in ("401", "403"):
        return (
            f"access is denied ({answer}); check {environment} in the environment of this process, and that they may "
            f"list, read, write and delete there"
        )
    if status:
        return f"it answers {answer}"
    if "TimedOut" in text or "timed out" in text:
        return f"it has not answered within {bound_s} s; check the URL and the endpoint"
    if "BadScheme" in text:
        return "its endpoint is not encrypted; if that is meant, set AWS_ALLOW_HTTP=true in the environment"
    if system or "error sending request" in text:
        why = (system[1] or _IN_WORDS[system[2]]) if system else "no connection"
        return f"it cannot be reached ({why}); check the URL and the endpoint"
    if "InvalidUri" in text:
        return f"its endpoint is no URL; correct {environment} in the environment of this process"
    return _without_secrets(" ".join(text.partition("\n")[0].split())[:300])


def _without_secrets(text: str) -> str:
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= 8:
            text = text.replace(value, "...")
    return re.sub(r"\?\S*", "", text)
