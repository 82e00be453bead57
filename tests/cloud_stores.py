"""Stores that speak what Google's and Azure's do, as far as obstore asks, in threads of this process."""

from __future__ import annotations

import itertools
import json
import re
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from obstore.store import AzureStore, GCSStore

from ps_cluster.local.reserved_ports import LOOPBACK


@dataclass(frozen=True)
class _Object:
    content: bytes
    attributes: dict[str, str]
    generation: int
    written_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def etag(self) -> str:
        return f'"{self.generation}"'

    @property
    def changed(self) -> str:
        return format_datetime(self.written_at, usegmt=True)


class _CloudStore(ABC):
    """Objects of all buckets. As a context manager it serves them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards: all below; held while a request is answered
        self._objects: dict[str, _Object] = {}
        self._numbers = itertools.count(1)
        store = self

        class Handler(_Handler):
            def answer(self, key: str, query: dict[str, str], body: bytes) -> None:
                with store._lock:
                    store._answer(self, key, query, body)

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._url = f"http://{LOOPBACK}:{self._server.server_address[1]}"

    @abstractmethod
    def _answer(self, request: _Handler, key: str, query: dict[str, str], body: bytes) -> None: ...

    def _put(self, key: str, content: bytes, request: _Handler, meta: str) -> _Object:
        named = {name: value for name, value in request.headers.items() if name.startswith(meta)}
        made = self._objects[key] = _Object(content, named, next(self._numbers))
        return made

    def _send(self, request: _Handler, key: str) -> None:
        if key not in self._objects:
            request.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        found = self._objects[key]
        headers = {
            **found.attributes,
            "ETag": found.etag,
            "Last-Modified": found.changed,
            "x-goog-generation": str(found.generation),
        }
        span = request.headers.get("Range")
        if span is None:
            request.reply(200, found.content, **headers)
            return
        first, last = (int(each) for each in span.removeprefix("bytes=").split("-"))
        piece = found.content[first : last + 1]
        place = f"bytes {first}-{first + len(piece) - 1}/{len(found.content)}"
        request.reply(206, piece, **headers, **{"Content-Range": place})

    def _found(self, bucket: str, query: dict[str, str]) -> tuple[dict[str, _Object], set[str]]:
        """The objects and the folders that a list has."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        keys = [key.removeprefix(bucket) for key in self._objects if key.startswith(bucket + prefix)]
        deeper = {key for key in keys if delimiter and "/" in key.removeprefix(prefix)}
        folders = {f"{prefix}{key.removeprefix(prefix).partition('/')[0]}/" for key in deeper}
        return {key: self._objects[bucket + key] for key in keys if key not in deeper}, folders

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class GoogleCloud(_CloudStore):
    """The XML API of Google's store.

    Args:
        account: A file that it writes, for ``GOOGLE_SERVICE_ACCOUNT`` of those who use it.
    """

    def __init__(self, account: Path):
        super().__init__()
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._account = account
        secret = {"client_email": "", "private_key": "", "private_key_id": ""}
        account.write_text(json.dumps({"gcs_base_url": self._url, "disable_oauth": True, **secret}), encoding="utf-8")

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to know, to use it."""
        return {"GOOGLE_SERVICE_ACCOUNT": str(self._account), "NO_PROXY": LOOPBACK, "no_proxy": LOOPBACK}

    def remote(self, bucket: str) -> GCSStore:
        """A bucket as obstore has it."""
        return GCSStore(bucket, config={"service_account": str(self._account)})

    def _answer(self, request: _Handler, key: str, query: dict[str, str], body: bytes) -> None:
        upload = query.get("uploadId", "")
        match request.command:
            case "POST" if "uploads" in query:
                number = str(next(self._numbers))
                self._uploads[number] = {}
                request.reply(200, _xml("InitiateMultipartUploadResult", _xml("UploadId", number)))
            case "PUT" if upload:
                self._uploads[upload][int(query["partNumber"])] = body
                request.reply(200, b"", ETag='"piece"')
            case "POST":
                pieces = self._uploads.pop(upload)
                made = self._put(key, b"".join([pieces[number] for number in sorted(pieces)]), request, "x-goog-meta-")
                request.reply(200, _xml("CompleteMultipartUploadResult", _xml("ETag", made.etag)))
            case "DELETE" if upload:
                self._uploads.pop(upload)
                request.reply(204, b"")
            case "PUT" if request.headers.get("x-goog-if-generation-match") == "0" and key in self._objects:
                request.reply(412, b"")
            case "PUT":
                request.reply(200, b"", ETag=self._put(key, body, request, "x-goog-meta-").etag)
            case "DELETE":
                request.reply(204 if self._objects.pop(key, None) else 404, b"")
            case _ if "list-type" in query:
                request.reply(200, self._listed(f"{key}/", query))
            case _:
                self._send(request, key)

    def _listed(self, bucket: str, query: dict[str, str]) -> bytes:
        objects, folders = self._found(bucket, query)
        entries = [_xml("IsTruncated", "false")]
        for key, found in objects.items():
            changed = found.written_at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
            about = {"Key": key, "LastModified": changed, "Size": str(len(found.content)), "ETag": found.etag}
            entries.append(_xml("Contents", b"".join([_xml(name, value) for name, value in about.items()])))
        entries += [_xml("CommonPrefixes", _xml("Prefix", each)) for each in sorted(folders)]
        return _xml("ListBucketResult", b"".join(entries))


class AzureCloud(_CloudStore):
    """Blobs of Azure's, as its emulator has them."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: dict[str, dict[str, bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to know, to use it."""
        return {
            "AZURE_STORAGE_USE_EMULATOR": "true",
            "AZURITE_BLOB_STORAGE_URL": self._url,
            "NO_PROXY": LOOPBACK,
            "no_proxy": LOOPBACK,
        }

    def remote(self, container: str) -> AzureStore:
        """A container as obstore has it, in a process that has the environment."""
        return AzureStore(container)

    def _answer(self, request: _Handler, key: str, query: dict[str, str], body: bytes) -> None:
        key = key.removeprefix("devstoreaccount1/")
        match request.command, query.get("comp", ""):
            case "PUT", "block":
                self._blocks.setdefault(key, {})[query["blockid"]] = body
                request.reply(201, b"")
            case "PUT", "blocklist":
                blocks = self._blocks.pop(key)
                order = re.findall("<Uncommitted>([^<]*)<", str(body, "utf-8"))
                content = b"".join([blocks[each] for each in order])
                request.reply(201, b"", ETag=self._put(key, content, request, "x-ms-meta-").etag)
            case "PUT", _ if request.headers.get("If-None-Match") == "*" and key in self._objects:
                request.reply(409, b"<Error><Code>BlobAlreadyExists</Code></Error>")
            case "PUT", _:
                request.reply(201, b"", ETag=self._put(key, body, request, "x-ms-meta-").etag)
            case "DELETE", _:
                request.reply(202 if self._objects.pop(key, None) else 404, b"")
            case "POST", "batch":
                self._delete_all(request, body)
            case _, "list":
                request.reply(200, self._listed(f"{key}/", query))
            case _:
                self._send(request, key)

    def _delete_all(self, request: _Handler, body: bytes) -> None:
        answers = []
        for number, path in enumerate(re.findall(r"DELETE (\S+) HTTP", str(body, "utf-8"))):
            is_there = self._objects.pop(
                unquote(urlsplit(path).path).lstrip("/").removeprefix("devstoreaccount1/"), None
            )
            status = "202 Accepted" if is_there else "404 The specified blob does not exist."
            error = "" if is_there else "x-ms-error-code: BlobNotFound\r\n"
            head = f"--batch\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\n"
            answers.append(f"{head}HTTP/1.1 {status}\r\n{error}x-ms-request-id: {number}\r\n\r\n\r\n")
        answer = "".join([*answers, "--batch--\r\n"]).encode()
        request.reply(202, answer, **{"Content-Type": "multipart/mixed; boundary=batch"})

    def _listed(self, container: str, query: dict[str, str]) -> bytes:
        objects, folders = self._found(container, query)
        entries = []
        for key, found in objects.items():
            about = {
                "Last-Modified": found.changed,
                "Content-Length": str(len(found.content)),
                "Content-Type": "application/octet-stream",
                "Etag": found.etag,
            }
            properties = _xml("Properties", b"".join([_xml(name, value) for name, value in about.items()]))
            entries.append(_xml("Blob", _xml("Name", key) + properties))
        entries += [_xml("BlobPrefix", _xml("Name", each)) for each in sorted(folders)]
        return _xml("EnumerationResults", _xml("Blobs", b"".join(entries)) + _xml("NextMarker", ""))


class _Handler(BaseHTTPRequestHandler):
    def answer(self, key: str, query: dict[str, str], body: bytes) -> None:
        raise NotImplementedError

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _any(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(unquote(url.path).lstrip("/"), query, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any  # noqa: N815 - as they are looked up

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


def _xml(name: str, content: str | bytes) -> bytes:
    inner = content if isinstance(content, bytes) else escape(content).encode()
    return b"<%b>%b</%b>" % (name.encode(), inner, name.encode())
