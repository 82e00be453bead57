"""A base image made from the machine's own Debian mirror, for an engine that cannot pull one."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.compose.engine import QUICK, run

IMAGE = "shardscope-test-base"
SUITE = "bookworm"
PYTHON = (3, 11)
"""The Python of that release; wheels for the image must be made by the same one."""

DEBOOTSTRAP_TIMEOUT = 600.0


def ensure_base_image() -> str:
    """Returns the name of the base image, which is made at the first call on a machine.

    Both the image and the archive that it is imported from are kept: making the archive takes about a minute.
    """
    if run(["docker", "image", "inspect", IMAGE], timeout=QUICK, check=False).returncode != 0:
        archive = _cache_directory() / f"base-{SUITE}-{platform.machine()}.tar"
        if not archive.exists():
            _make_archive(archive)
        run(["docker", "import", str(archive), IMAGE], timeout=300)
    return IMAGE


def _cache_directory() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardscope"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _make_archive(archive: Path) -> None:
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        pytest.skip("no base image: debootstrap, and root to run it, are needed")
    # In the cache directory, since a temporary one may be mounted without device files.
    with tempfile.TemporaryDirectory(dir=archive.parent) as work:
        root, made = Path(work, "root"), Path(work, "root.tar")
        # In a mount namespace, so that what debootstrap mounts goes away with it, however it ends.
        namespace = ["unshare", "--mount", "--fork", "--kill-child"]
        packages = "--include=python3,python3-venv,ca-certificates"
        debootstrap = ["debootstrap", "--variant=minbase", packages, SUITE, str(root), _mirror()]
        run([*namespace, *debootstrap], timeout=DEBOOTSTRAP_TIMEOUT)
        unneeded = ["--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*"]
        run(["tar", "--create", "--file", str(made), "--directory", str(root), *unneeded, "."], timeout=300)
        made.replace(archive)


def _mirror() -> str:
    """Returns the address of the mirror that the machine's own packages come from."""
    targets = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Component: main"],
        timeout=QUICK,
    )
    # The main archive: updates for security are kept in another one.
    mirrors = [line for line in targets.stdout.splitlines() if re.search(r"/debian/?$", line)]
    if not mirrors:
        pytest.skip("no base image: the machine has no Debian mirror")
    return mirrors[0]
