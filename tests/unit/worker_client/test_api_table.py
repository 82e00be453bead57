"""The table of TensorFlow 1's names in the documentation says what is so.

``api_signatures.txt`` lists the names with TensorFlow's own signatures, the table says of each what it does here.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

import worker_client.compat.v1 as tf
from worker_client.values import left_out

ROOT = Path(__file__).parents[3]
SIGNATURES = ROOT / "tests" / "conformance" / "reference" / "api_signatures.txt"
TABLE = ROOT / "docs" / "tf1-names.md"

WORKS, DIFFERS, LEFT_OUT = "works", "works differently", "left out"

_ROW = re.compile(r"^\| `([\w.]+)` \| ([\w ]+?) *\| *(.*?) *\|$", re.MULTILINE)
_ENTRY = re.compile(r"(?P<member>    \.)?(?P<name>[\w.]+)(?P<call>\(.*)?")
_BRACKETS: Final = {"(": 1, "[": 1, "<": 1, ")": -1, "]": -1, ">": -1}


@dataclass(frozen=True)
class Name:
    """A name of TensorFlow 1.

    Attributes:
        path: As "train.ClusterSpec.as_dict".
        parameters: Names of its parameters without ``self``; None if it takes none that are known.
    """

    path: str
    parameters: list[str] | None


@dataclass(frozen=True)
class Row:
    """What the table says of a name."""

    status: str
    note: str


def listed_names() -> list[Name]:
    names, owner = [], ""
    for line in SIGNATURES.read_text(encoding="utf-8").splitlines():
        if line.startswith("## ") and "(" not in line:
            continue
        entry = _ENTRY.match(line.removeprefix("## "))
        assert entry is not None, line
        if entry["member"]:
            path = f"{owner}.{entry['name']}"
        else:
            path = owner = entry["name"]
        names.append(Name(path, parameters_in(entry["call"])))
    return names


def parameters_in(call: str | None) -> list[str] | None:
    """Takes "(self, a, b=(1, 2)) -> None" apart."""
    if call is None or call.startswith("(?)"):
        return None
    found, depth, start = [], 0, 1
    for position, character in enumerate(call):
        depth += _BRACKETS.get(character, 0)
        if depth == 0 or (depth == 1 and character == ","):
            found.append(call[start:position].strip())
            start = position + 1
        if depth == 0:
            break
    names = [re.match(r"\**\w*", each)[0] for each in found]  # type: ignore[index]  # it matches everything
    return [name for name in names if name and name != "self"]


def rows() -> dict[str, Row]:
    return {name: Row(status, note) for name, status, note in _ROW.findall(TABLE.read_text(encoding="utf-8"))}


def resolved(path: str) -> Any:
    first, *parts = path.split(".")
    found: Any = getattr(tf, first)
    if parts and found is tf.Graph:
        found = found()  # some of its attributes only its instances have
    for part in parts:
        found = getattr(found, part)
    return found


def own_parameters(found: Any) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(found).parameters.values())
    return parameters[1:] if parameters and parameters[0].name == "self" else parameters


NAMES = listed_names()
ROWS = rows()


def with_status(*statuses: str) -> list[Any]:
    return [
        pytest.param(name, id=name.path) for name in NAMES if name.path in ROWS and ROWS[name.path].status in statuses
    ]


def test_the_names_are_all_there() -> None:
    assert len(NAMES) == 330
    assert Name("train.ClusterSpec.as_dict", []) in NAMES
    assert Name("train.global_step", ["sess", "global_step_tensor"]) in NAMES
    assert Name("PartitionedVariable.axis", None) not in NAMES


def test_every_name_has_a_row_and_every_row_a_name() -> None:
    in_table = [name for name, _, _ in _ROW.findall(TABLE.read_text(encoding="utf-8"))]
    assert Counter(in_table) == Counter(name.path for name in NAMES)


def test_rows_have_a_status_and_say_why_a_name_does_not_simply_work() -> None:
    for name, row in ROWS.items():
        assert row.status in (WORKS, DIFFERS, LEFT_OUT), name
        assert bool(row.note) or row.status == WORKS, name


@pytest.mark.parametrize("name", with_status(WORKS, DIFFERS))
def test_a_name_that_works_is_there(name: Name) -> None:
    resolved(name.path)


@pytest.mark.parametrize("name", with_status(WORKS))
def test_a_name_that_works_takes_what_tensorflows_takes(name: Name) -> None:
    """Every call that TensorFlow understands is understood; further parameters may follow if they need not be given."""
    if name.parameters is None or "*args" in name.parameters:
        return
    expected = [parameter for parameter in name.parameters if not parameter.startswith("**")]
    parameters = own_parameters(resolved(name.path))
    shown = [str(each).partition(":")[0].partition("=")[0].strip() for each in parameters]
    assert shown[: len(expected)] == expected
    further = parameters[len(expected) :]
    assert all(each.default is not each.empty or each.kind is each.VAR_KEYWORD for each in further)


@pytest.mark.parametrize("name", with_status(LEFT_OUT))
def test_the_table_says_what_the_names_themselves_say(name: Name) -> None:
    reason = left_out.reason_for(name.path) or left_out.reason_for(name.path.partition(".")[0])
    reason = reason or left_out.reason_for(name.path.rpartition(".")[0])
    assert reason in (None, ROWS[name.path].note)


@pytest.mark.parametrize("name", with_status(LEFT_OUT))
def test_a_name_that_is_left_out_is_not_there(name: Name) -> None:
    with pytest.raises(AttributeError):
        resolved(name.path)


def test_the_other_names_are_all_listed() -> None:
    section = TABLE.read_text(encoding="utf-8").partition("## Other names that are here")[2].partition("\n## ")[0]
    listed = {
        f"{module}.{name}"
        for module, names in re.findall(r"^\| `(tf[\w.]*)` \| (.*) \|$", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    modules = ["tf", *sorted({path.rpartition(".")[0] for path in listed} - {"tf"})]
    assert len(modules) == 20
    there = {f"{module}.{name}" for module in modules for name in _module(module).__all__}
    works = {f"tf.{path}" for path, row in ROWS.items() if row.status != LEFT_OUT}
    assert listed == there - works


def _module(path: str) -> Any:
    found: Any = tf
    for part in path.split(".")[1:]:
        found = getattr(found, part)
    return found


def test_all_names_of_the_module_are_exported_and_exist() -> None:
    assert len(set(tf.__all__)) == len(tf.__all__)
    assert all(hasattr(tf, name) for name in tf.__all__)
