"""An S3 server in a process of its own on the loopback, which keeps objects in its memory: moto's."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from obstore.store import S3Store

from ps_cluster.local.reserved_ports import LOOPBACK

ACCESS_KEY: Final = "AKIAOFTHETESTS123456"
SECRET_KEY: Final = "the-secret-key-of-the-tests"


class S3Process:
    """The server. As a context manager it starts its process, and ends it for good."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.endpoint = ""

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to know, to use it."""
        return environment_of(self.endpoint)

    def new_bucket(self) -> str:
        """Makes a bucket and returns its name."""
        name = f"bucket-{uuid4().hex}"
        self.make_bucket(name)
        return name

    def make_bucket(self, name: str) -> None:
        """Makes a bucket of a name."""
        self._request("PUT", name)

    def remote(self, bucket: str) -> S3Store:
        """A bucket as obstore has it, to look at and to damage what is there."""
        return S3Store(
            bucket,
            config={
                "endpoint": self.endpoint,
                "region": "us-east-1",
                "access_key_id": ACCESS_KEY,
                "secret_access_key": SECRET_KEY,
            },
            client_options={"allow_http": True},
        )

    def num_uploads(self, bucket: str) -> int:
        """How many uploads in pieces are neither complete nor given up."""
        return len(re.findall("<Upload>", self._request("GET", f"{bucket}?uploads")))

    def kill(self) -> None:
        """Ends the process; nothing that it had stays."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.communicate()

    def _request(self, method: str, path: str) -> str:
        request = urllib.request.Request(f"{self.endpoint}/{path}", method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30.0) as answer:
            return str(answer.read(), "utf-8")

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.s3_process"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.endpoint = f"http://{LOOPBACK}:{int(self._process.stdout.readline())}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def environment_of(endpoint: str) -> dict[str, str]:
    """What a process needs to know, to use the S3 server at an endpoint."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "NO_PROXY": LOOPBACK,
        "no_proxy": LOOPBACK,
    }


def _serve() -> None:
    """Serves until standard input ends, as it does with the process that has begun this one."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - takes a while, and only the server needs it

    server = ThreadedMotoServer(ip_address=LOOPBACK, port=0, verbose=False)
    server.start()
    sys.stdout.write(f"{server.get_host_and_port()[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    _serve()
