"""A store that speaks what Google's does, as far as obstore asks: its XML API, in threads of this process."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from obstore.store import GCSStore

from ps_cluster.local.reserved_ports import LOOPBACK


@dataclass(frozen=True)
class _Object:
    content: bytes
    attributes: dict[str, str]
    generation: int
    written_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content, usedforsecurity=False).hexdigest()}"'


class GoogleStore:
    """Objects of all buckets. As a context manager it serves them.

    Args:
        account: A file that it writes, for ``GOOGLE_APPLICATION_CREDENTIALS`` of those who use it.
    """

    def __init__(self, account: Path):
        self._lock = threading.Lock()  # guards: all below
        self._objects: dict[str, _Object] = {}
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._numbers = itertools.count(1)
        store = self

        class Handler(_Handler):
            def answer(self, key: str, query: dict[str, str], body: bytes) -> None:
                with store._lock:
                    store._answer(self, key, query, body)

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._account = account
        secret = {"client_email": "", "private_key": "", "private_key_id": ""}
        url = f"http://{LOOPBACK}:{self._server.server_address[1]}"
        account.write_text(json.dumps({"gcs_base_url": url, "disable_oauth": True, **secret}), encoding="utf-8")

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to know, to use it."""
        return {"GOOGLE_SERVICE_ACCOUNT": str(self._account), "NO_PROXY": LOOPBACK, "no_proxy": LOOPBACK}

    @property
    def num_uploads(self) -> int:
        """How many uploads in pieces are neither complete nor given up."""
        with self._lock:
            return len(self._uploads)

    def remote(self, bucket: str) -> GCSStore:
        """A bucket as obstore has it."""
        return GCSStore(bucket, config={"service_account": str(self._account)})

    def _answer(self, request: _Handler, key: str, query: dict[str, str], body: bytes) -> None:
        upload = query.get("uploadId", "")
        match request.command:
            case "POST" if "uploads" in query:
                number = str(next(self._numbers))
                self._uploads[number] = {}
                request.reply(200, _xml("InitiateMultipartUploadResult", UploadId=number))
            case "PUT" if upload:
                self._uploads[upload][int(query["partNumber"])] = body
                request.reply(200, b"", ETag='"piece"')
            case "POST":
                pieces = self._uploads.pop(upload)
                made = self._put(key, b"".join([pieces[number] for number in sorted(pieces)]), {})
                request.reply(200, _xml("CompleteMultipartUploadResult", ETag=made.etag))
            case "DELETE" if upload:
                self._uploads.pop(upload)
                request.reply(204, b"")
            case "PUT":
                if request.headers.get("x-goog-if-generation-match") == "0" and key in self._objects:
                    request.reply(412, b"")
                    return
                named = {name: value for name, value in request.headers.items() if name.startswith("x-goog-meta-")}
                made = self._put(key, body, named)
                request.reply(200, b"", ETag=made.etag)
            case "DELETE":
                request.reply(204 if self._objects.pop(key, None) else 404, b"")
            case _ if "list-type" in query:
                request.reply(200, self._listed(f"{key}/", query.get("prefix", ""), query.get("delimiter", "")))
            case _ if key in self._objects:
                self._send(request, self._objects[key])
            case _:
                request.reply(404, _xml("Error", Code="NoSuchKey"))

    def _put(self, key: str, content: bytes, attributes: dict[str, str]) -> _Object:
        made = self._objects[key] = _Object(content, attributes, next(self._numbers))
        return made

    @staticmethod
    def _send(request: _Handler, found: _Object) -> None:
        headers = {
            **found.attributes,
            "ETag": found.etag,
            "Last-Modified": format_datetime(found.written_at, usegmt=True),
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

    def _listed(self, bucket: str, prefix: str, delimiter: str) -> bytes:
        keys = [key.removeprefix(bucket) for key in self._objects if key.startswith(bucket + prefix)]
        folders = {prefix + key.removeprefix(prefix).partition("/")[0] + "/" for key in keys} if delimiter else set()
        entries = []
        for key in keys:
            if delimiter and "/" in key.removeprefix(prefix):
                continue
            found = self._objects[bucket + key]
            written_at = found.written_at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
            about = (
                f"<LastModified>{written_at}</LastModified><Size>{len(found.content)}</Size><ETag>{found.etag}</ETag>"
            )
            entries.append(f"<Contents><Key>{escape(key)}</Key>{about}</Contents>")
        deeper = {folder for folder in folders if [key for key in keys if key.startswith(folder)]}
        entries += [f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in sorted(deeper)]
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(entries)}</ListBucketResult>".encode()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


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


def _xml(name: str, **content: str) -> bytes:
    inner = "".join([f"<{each}>{escape(value)}</{each}>" for each, value in content.items()])
    return f"<{name}>{inner}</{name}>".encode()
