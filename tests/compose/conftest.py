"""Builds the image once a run, offline, and gives every test a cluster that is always taken down."""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.base_image import PYTHON, ensure_base_image
from tests.compose.engine import QUICK, ComposeProject, find_compose, run, why_no_engine

CHECKOUT = Path(__file__).resolve().parents[2]
NOT_SOURCE = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "build", "dist")


@pytest.fixture(scope="session")
def compose_command() -> tuple[str, ...]:
    """The command that starts Compose. Without an engine or without Compose there is nothing to test."""
    if reason := why_no_engine():
        pytest.skip(reason)
    command = find_compose()
    if command is None:
        pytest.skip("no Docker Compose that is new enough")
    return command


@pytest.fixture(scope="session")
def offline_checkout(compose_command: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with all wheels in it, as deploy/Dockerfile says for a build without a registry."""
    if sys.version_info[:2] != PYTHON:
        pytest.skip(f"wheels for the base image are made by Python {PYTHON[0]}.{PYTHON[1]}")
    copy = tmp_path_factory.mktemp("offline") / "checkout"
    shutil.copytree(CHECKOUT, copy, ignore=NOT_SOURCE)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--constraint", str(copy / "constraints.txt")]
    run([*pip, "--wheel-dir", str(copy / "deploy/wheels"), str(copy)], timeout=600)
    return copy


@pytest.fixture(scope="session")
def image(compose_command: tuple[str, ...], offline_checkout: Path) -> Iterator[str]:
    """The project's image, built the way compose.yaml says."""
    tag = f"shardscope-test:{uuid.uuid4().hex[:12]}"
    project = ComposeProject(
        compose_command,
        offline_checkout / "deploy/compose.yaml",
        f"shardscope-build-{uuid.uuid4().hex[:12]}",
        {"BASE_IMAGE": ensure_base_image(), "SHARDSCOPE_IMAGE": tag},
    )
    project.compose("build", timeout=600)
    yield tag
    run(["docker", "image", "rm", "--force", tag], timeout=QUICK, check=False)


@pytest.fixture
def cluster(compose_command: tuple[str, ...], image: str) -> Iterator[ComposeProject]:
    """A compose project of the checkout's compose.yaml that has not been started yet."""
    project = ComposeProject(
        compose_command,
        CHECKOUT / "deploy/compose.yaml",
        f"shardscope-test-{uuid.uuid4().hex[:12]}",
        {"SHARDSCOPE_IMAGE": image},
    )
    try:
        yield project
    finally:
        project.down()
