"""Manifests whose checksums fit, but that say what cannot be: each field has each of many wrong values once."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import worker_client as ss
from ps_protocol.checkpoints.manifest import MANIFEST_FILE
from ps_protocol.errors import ShardscopeError
from ps_protocol.files.spec_json import encode_checked
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster, assert_equal

MISSING = object()
NESTED: list[Any] = []
for _ in range(200):
    NESTED = [NESTED]
WRONG: tuple[Any, ...] = (
    MISSING,
    None,
    True,
    -1,
    2**64,
    10**400,
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    "x",
    "../../etc/passwd",
    "\ud800",
    [],
    ["x"],
    [-1],
    [10**400],
    [[1]],
    {},
    {"x": 1},
    NESTED,
)

Field = tuple[str | int, ...]


def fields_of(content: Any) -> list[Field]:
    """One of each kind of field and element in a document."""
    found: dict[tuple[str, ...], Field] = {}
    for field in _all_fields(content, ()):
        found.setdefault(tuple([key if isinstance(key, str) else "[]" for key in field]), field)
    return list(found.values())


def _all_fields(content: Any, path: Field) -> Iterator[Field]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _all_fields(value, (*path, key))


def changed(content: Any, field: Field, value: Any) -> Any:
    content = copy.deepcopy(content)
    inside = content
    for key in field[:-1]:
        inside = inside[key]
    if value is MISSING:
        del inside[field[-1]]
    else:
        inside[field[-1]] = value
    return content


def saved(folder: Path, cluster: SmallCluster) -> Any:
    """What the manifest of a checkpoint says that has all that there is: parts, slots, schedules, other layouts."""
    client = cluster.client()
    model = Model(client)
    scheduled = ss.train.Adam(ss.train.ExponentialDecay(0.1, 10, 0.9))
    with client.as_default():
        ss.get_variable("names", [2], dtype=np.dtype("S5"), initializer=ss.constant_initializer(b"ab"))
        ss.get_variable("empty", [0], initializer=ss.zeros_initializer())
        clipped = ss.get_variable("clipped", [3])
        scheduled.apply_gradients([(np.ones(3, np.float32), clipped)])
    model.train(0, 2)
    client.save(folder, name="x", step=7, metrics={"accuracy": 0.5})
    return json.loads((folder / "x" / MANIFEST_FILE).read_bytes())["content"]


def is_refused(name: str, work: Callable[[], object]) -> str:
    """Whether something is refused in words; returns these."""
    try:
        work()
    except ShardscopeError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"{name}: {error!r}") from error
    return ""


def test_no_wrong_field_is_more_than_an_error_that_names_it(tmp_path: Path, cluster: SmallCluster) -> None:
    content = saved(tmp_path, cluster)
    folder = tmp_path / "x"
    refused, taken = 0, list[str]()
    for field in fields_of(content):
        for value in WRONG:
            name = f"{field} = {'nothing' if value is MISSING else repr(value)[:40]}"
            (folder / MANIFEST_FILE).write_bytes(encode_checked(changed(content, field, value)))
            said = is_refused(name, lambda: ss.checkpoint.show(folder))
            if said:
                named = [key for key in field if isinstance(key, str)]
                assert MANIFEST_FILE in said, (name, said)
                assert named[-1] in said or named[0] in said or "newer version" in said, (name, said)
                assert len(said) < 1000, (name, said)
                refused += 1
            else:
                taken.append(name)
            # Whatever it says, nothing else than an error in words comes of it.
            is_refused(name, lambda: str(ss.checkpoint.list(tmp_path)))
    assert refused > 10 * len(taken), taken


def test_what_looks_right_is_refused_by_a_restore_or_fits(tmp_path: Path, cluster: SmallCluster) -> None:
    """What no look at the manifest finds, such as another name, a restore does, before it changes anything."""
    content = saved(tmp_path, cluster)
    folder = tmp_path / "x"
    client = cluster.client(1)
    variables = [client.variable(name) for name in ("layer/whole", "names", "steps")]
    refused = 0
    for field in [each for each in fields_of(content["parts"][0]) if len(each) > 2]:
        for value in (1, 0, [1], [37, 5], "float32", "y"):
            before = [each.read_value() for each in variables]
            wrong = changed(content, ("parts", 0, *field), value)
            (folder / MANIFEST_FILE).write_bytes(encode_checked(wrong))
            name = f"{field} = {value!r}"
            is_refused(name, lambda: ss.checkpoint.verify(folder))
            if is_refused(name, lambda: client.restore(folder)):
                refused += 1
                assert_equal([each.read_value() for each in variables], before)
    assert refused > 50
