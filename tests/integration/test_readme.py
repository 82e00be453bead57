"""The code in README.md and in the documentation does what they say.

Python blocks are run as they stand. What a block prints must be what its comments ``# prints ...`` say, line by line.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import shardscope
from ps_cluster import LocalCluster
from ps_cluster.cli.app import COMMANDS

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *sorted(path for path in ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_PRINTS = re.compile(r"# prints (.*)$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Section:
    """The Python blocks under one heading, which are run one after the other."""

    document: str
    heading: str
    code: str  # with an empty line for every line that is no code, so that tracebacks show the document's lines

    def run(self, names: dict[str, Any]) -> None:
        exec(compile(self.code, str(ROOT / self.document), "exec"), names)

    @property
    def expected_output(self) -> list[str]:
        return _PRINTS.findall(self.code)


def sections_of(document: str) -> list[Section]:
    text = (ROOT / document).read_text(encoding="utf-8")
    starts = [(0, "start"), *((match.start(), match[1]) for match in _HEADING.finditer(text))]
    ends = [*(start for start, _ in starts[1:]), len(text)]
    sections = []
    for (start, heading), end in zip(starts, ends, strict=True):
        lines: list[str] = []
        for block in _BLOCK.finditer(text, start, end):
            lines += [""] * (text.count("\n", 0, block.start(1)) - len(lines)) + block[1].splitlines()
        if lines:
            sections.append(Section(document, heading, "\n".join(lines)))
    return sections


def named(sections: list[Section]) -> list[Any]:
    return [pytest.param(section, id=section.heading.replace(" ", "-").lower()) for section in sections]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=2, num_workers=3) as cluster:
        yield cluster


@pytest.mark.parametrize("section", named(sections_of("README.md")))
def test_readme_runs_by_itself(section: Section, capsys: pytest.CaptureFixture[str]) -> None:
    section.run({})
    assert capsys.readouterr().out.splitlines() == section.expected_output


@pytest.mark.parametrize("section", named(sections_of("docs/guide.md")))
def test_guide_runs_with_an_open_connection(
    section: Section, cluster: LocalCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", cluster.tf_config("worker", 0))
    with shardscope.connect(cluster.cluster_spec) as client:
        section.run({"np": np, "ss": shardscope, "client": client, "cluster_spec": cluster.cluster_spec})
    assert capsys.readouterr().out.splitlines() == section.expected_output


def test_what_comes_before_the_blocks_of_the_guide_runs_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", "")  # so that it is as before at the end
    [preface] = re.findall(r"^    import os\n(?:    .*\n|\n)*", (ROOT / "docs/guide.md").read_text(), re.MULTILINE)
    names: dict[str, Any] = {}
    try:
        exec(textwrap.dedent(preface), names)
        with shardscope.connect() as client:
            assert str(client.task) == "worker:0"
        assert {"np", "ss", "client", "cluster_spec"} <= names.keys()  # what its sections are run with
    finally:
        names["client"].close()
        names["cluster"].stop()


@pytest.mark.parametrize("section", named(sections_of("docs/operations.md")))
def test_operations_runs_by_itself(section: Section, capsys: pytest.CaptureFixture[str]) -> None:
    section.run({})
    assert capsys.readouterr().out.splitlines() == section.expected_output


@pytest.mark.parametrize(
    "page",
    [
        *("checkpoints", "data-shards", "jax", "pytorch", "pytorch-embeddings", "tensorflow-checkpoints"),
        "training-together",
    ],
)
def test_pages_that_are_one_program_run_by_themselves(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, page: str
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}  # one program
    for section in sections_of(f"docs/{page}.md"):
        section.run(names)
        assert capsys.readouterr().out.splitlines() == section.expected_output


@pytest.mark.parametrize("section", named(sections_of("docs/tf1-names.md")))
def test_the_program_of_tensorflow_1_runs_by_itself(section: Section, capsys: pytest.CaptureFixture[str]) -> None:
    section.run({})
    assert capsys.readouterr().out.splitlines() == section.expected_output


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_of_python_is_run(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    name = str(document.relative_to(ROOT))
    blocks = re.findall(r"^[ ]*(?:```|~~~)[ ]*(?:python|py|pycon)\b", text, re.MULTILINE | re.IGNORECASE)
    pages = (
        *("checkpoints", "data-shards", "guide", "jax", "operations", "pytorch", "pytorch-embeddings"),
        *("tensorflow-checkpoints", "tf1-names", "training-together"),
    )
    run = _BLOCK.findall(text) if name in ("README.md", *[f"docs/{each}.md" for each in pages]) else []
    assert len(run) == len(blocks)


def test_the_first_hour_fits_a_terminal_and_names_no_machine() -> None:
    text = (ROOT / "docs/first-hour.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if re.search(r"(^|[ ='])/(?!(dev|s)\b)\w|localhost|@", line)] == []
    unwrapped = "".join(line if len(line) == 80 else f"{line}\n" for line in lines)
    hosts = set(re.findall(r"([\w.-]+):\d{4,5}\b", unwrapped))
    assert hosts == {"127.0.0.1"}
    commands = re.findall(r"^\$ shardscope (\w+)", text, re.MULTILINE)
    assert set(commands) == {"up", "ls", "get", "ps", "shutdown"} <= COMMANDS.keys()


def test_operations_describes_every_option_of_the_ps() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    table = text.split("## Options of a ps task", 1)[1].split("\n## ", 1)[0]
    described = set(re.findall(r"^\| `(--[a-z-]+)", table, re.MULTILINE))
    shown = subprocess.run(
        [sys.executable, "-m", "ps_server", "--help"], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert described == set(re.findall(r"(--[a-z-]+)", shown.split("Options:", 1)[1])) - {"--help", "--version"}


def test_operations_and_its_help_describe_every_option_of_a_local_cluster() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    table = text.split("| option of `LocalCluster` |", 1)[1].split("\n\n", 1)[0]
    options = set(inspect.signature(LocalCluster).parameters)
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == options
    arguments = (inspect.getdoc(LocalCluster) or "").split("Args:", 1)[1].split("Raises:", 1)[0]
    assert set(re.findall(r"^ {4}(\w+): ", arguments, re.MULTILINE)) == options


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    links = _LINK.findall(document.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if not link.startswith(("http://", "https://", "#"))]
    assert [link for link in local if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_headings(document: Path) -> None:
    for link in _LINK.findall(document.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if anchor and not path.startswith(("http://", "https://")):
            text = (document.parent / path if path else document).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings], link


def test_the_guide_lists_all_of_its_sections() -> None:
    text = (ROOT / "docs/guide.md").read_text(encoding="utf-8")
    contents = text.partition("\n## ")[0]
    for heading in _HEADING.findall(text):
        assert f"(#{heading.lower().replace(' ', '-')})" in contents


def test_the_loop_of_pytorch_runs(cluster: LocalCluster) -> None:
    torch = pytest.importorskip("torch")
    text = (ROOT / "docs/guide.md").read_text(encoding="utf-8")
    [loop] = re.findall(r"^    parameters = dict\(model(?:.*\n    )+.*\n", text, re.MULTILINE)
    model, inputs = torch.nn.Linear(3, 1), torch.randn(64, 3)
    batches = [(inputs, inputs.sum(1, keepdim=True))] * 300
    names: dict[str, Any] = {"ss": shardscope, "model": model, "batches": batches, "loss": torch.nn.functional.mse_loss}
    with shardscope.connect(cluster.cluster_spec, task_index=1):
        exec(textwrap.dedent(loop), names)
        values = shardscope.read_all(["model/weight", "model/bias"])
    np.testing.assert_allclose(values[0], [[1, 1, 1]], atol=0.2)


def test_an_old_python_is_told_to_be_one(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")  # what the question for the version ends with
    old.chmod(0o755)
    command = ["make", "demo", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode != 0
    assert "needs Python 3.11 or newer" in ended.stderr
    assert "make demo PYTHON=" in ended.stderr
    assert not (tmp_path / "venv").exists()


def test_the_picture_is_well_formed() -> None:
    picture = ElementTree.parse(ROOT / "docs/architecture.svg").getroot()
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
