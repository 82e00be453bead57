"""What ``shardscope ls`` prints, as tables for people and as JSON for programs."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ps_cluster.inspection.printable_text import printable
from ps_cluster.inspection.queries import PsAnswer
from ps_cluster.inspection.task_table import format_size, replica_word
from ps_protocol.dtype_traits import dtype_name
from ps_protocol.service_types import Member, Status, VariableInfo
from ps_protocol.task_id import TaskId

_UNBOUNDED_WIDTH: Final = 10_000
_MAY_GO_ON: Final = frozenset(
    {"name", "shape", "slot of", "address", "host", "state", "kept", "role", "trouble", "does"}
)
"""Columns that go on in the next line where a terminal is too narrow; the others are never cut."""
PS_DROPPABLE: Final = ("sent", "received", "operations", "clients", "held", "variables")
MEMBER_DROPPABLE: Final = ("since", "host", "pid")
_MEMBER_STYLES: Final = {"active": "green", "late": "yellow", "dead": "bold red", "left": "dim"}


def _record(value: Any) -> Any:
    """A JSON object with the fields of a dataclass; null for None."""
    return None if value is None else {name: _json_value(each) for name, each in asdict(value).items()}


def _json_value(value: object) -> object:
    match value:
        case enum.Enum():
            return value.name.lower()
        case UUID():
            return str(value)
        case tuple():
            return list(value)
    return value


def _printable(value: Any) -> Any:
    """The same records, or what is in them, with no text that a terminal would do more with than show it."""
    match value:
        case str():
            return printable(value)
        case dict():
            return {name: _printable(each) for name, each in value.items()}
        case list():
            return [_printable(each) for each in value]
    return value


def variable_records(answers: Sequence[PsAnswer[list[VariableInfo]]]) -> list[dict[str, Any]]:
    """One JSON object for each variable, by name; slots come after their variable."""
    records = [
        {
            "name": info.spec.name,
            "shape": list(info.spec.shape),
            "dtype": dtype_name(info.spec.dtype),
            "object_kind": info.spec.object_kind,
            "bytes": info.size_bytes,
            "task": str(answer.task),
            "version": info.version,
            "initialized": info.initialized,
            "slice": _record(info.spec.slice),
            "slot_of": info.spec.slot_of,
        }
        for answer in answers
        for info in answer.value or ()
    ]
    owners = {record["name"]: record["slot_of"] for record in records}

    def place(record: dict[str, Any]) -> list[str]:
        """The names of the variable, of its slot, of a slot of that, and so on."""
        names = [str(record["name"])]
        while (owner := owners.get(names[0])) and owner not in names:
            names.insert(0, owner)
        return names

    return sorted(records, key=place)


def variable_table(records: Sequence[dict[str, Any]]) -> Table:
    """The same as a table; slots stand a little to the right, and beside them whose they are."""
    records = _printable(records)
    has_slots = any(record["slot_of"] for record in records)
    of_slots = ["slot of"] if has_slots else []
    table = new_table("name", "shape", "dtype", ">bytes", "task", ">version", "initialized", *of_slots)
    for record in records:
        slot_of = record["slot_of"]
        table.add_row(
            Text(f"  {record['name']}" if slot_of else record["name"], style="dim" if slot_of else ""),
            Text(str(record["shape"])),
            Text(record["object_kind"] or record["dtype"]),
            f"{record['bytes']:,}",
            Text(record["task"]),
            f"{record['version']:,}",
            "yes" if record["initialized"] else Text("no", style="yellow"),
            *([Text(slot_of, style="dim")] if has_slots else []),
        )
    return table


def variable_droppable(records: Sequence[dict[str, Any]]) -> list[str]:
    """Columns that a narrow table of variables need not have."""
    slots = ["slot of"] if any(record["slot_of"] for record in records) else []
    return [*slots, *(["initialized"] if all(record["initialized"] for record in records) else []), "bytes", "version"]


def ps_records(answers: Sequence[PsAnswer[Status]]) -> list[dict[str, Any]]:
    """One JSON object for each ps and backup that has answered."""
    return [
        {
            "task": str(answer.task),
            "address": answer.address,
            "state": status.state.name.lower(),
            "store": str(status.store),
            "uptime_s": round(status.uptime_s, 3),
            "variables": status.num_variables,
            "variable_bytes": status.variable_bytes,
            "memory_limit_bytes": status.memory_limit_bytes,
            "clients": status.num_clients,
            "batches": status.batches,
            "operations": status.operations,
            "duplicate_batches": status.duplicate_batches,
            "steps_skipped": status.steps_skipped,
            "steps_refused": status.steps_refused,
            "bytes_received": status.bytes_received,
            "bytes_sent": status.bytes_sent,
            "durability": _record(status.durability),
            "replication": _record(status.replication),
            "troubles": list(status.troubles),
        }
        for answer in answers
        if (status := answer.value) is not None
    ]


def ps_table(records: Sequence[dict[str, Any]]) -> Table:
    """The same as a table; what is kept, who is the primary, and what fails, is shown where that applies to a task."""
    records = _printable(records)
    keeps = any(record["durability"] for record in records)
    is_replicated = any(record["replication"] for record in records)
    is_troubled = any(record["troubles"] for record in records)
    table = new_table(
        *("task", "address", "state", ">up", ">variables", ">held", ">clients", ">operations", ">received", ">sent"),
        *(["kept"] if keeps else []),
        *([">epoch", "role"] if is_replicated else []),
        *(["trouble"] if is_troubled else []),
    )
    for record in records:
        table.add_row(
            Text(record["task"]),
            Text(record["address"]),
            record["state"],
            duration(record["uptime_s"]),
            f"{record['variables']:,}",
            format_size(record["variable_bytes"]),
            f"{record['clients']:,}",
            f"{record['operations']:,}",
            format_size(record["bytes_received"]),
            format_size(record["bytes_sent"]),
            *([_kept(record["durability"])] if keeps else []),
            *(_role_cells(record["replication"]) if is_replicated else []),
            *([Text("; ".join(record["troubles"]), style="red")] if is_troubled else []),
        )
    return table


def _kept(durability: dict[str, Any] | None) -> Text:
    if durability is None:
        return Text("nothing", style="yellow")
    if durability["obstacle"]:
        return Text(f"{durability['mode']}: {durability['obstacle']}", style="red")
    return Text(durability["mode"])


def _role_cells(replication: dict[str, Any] | None) -> list[Text]:
    if replication is None:
        return [Text(""), Text("")]
    word = replica_word(replication["role"], replication["has_backup"])
    obstacle = replication["obstacle"].partition(" (")[0]  # without the details, which JSON has
    is_well = word in ("primary", "backup") and not obstacle
    role = Text(f"{word}: {obstacle}" if obstacle else word, style="" if is_well else "yellow")
    return [Text(str(replication["epoch"])), role]


def member_records(members: Sequence[Member]) -> list[dict[str, Any]]:
    """One JSON object for each task that has joined; times are seconds since the epoch."""
    return list(map(_record, sorted(members, key=lambda member: TaskId.parse(member.task))))


def member_table(records: Sequence[dict[str, Any]], now_s: float) -> Table:
    """The same as a table, with times as how long before ``now_s`` (seconds since the epoch)."""
    table = new_table("task", "state", "host", ">pid", ">steps", ">since", ">last seen")
    for record in _printable(records):
        table.add_row(
            Text(record["task"]),
            Text(
                ": ".join(filter(None, (record["state"], record["end"]))), style=_MEMBER_STYLES.get(record["state"], "")
            ),
            Text(record["host"]),
            str(record["pid"]),
            f"{record['step']:,}" if record["step"] else "",
            f"{duration(now_s - record['joined_at_s'])} ago",
            f"{duration(now_s - record['last_seen_s'])} ago",
        )
    return table


def print_table(table: Table, droppable: Sequence[str] = ()) -> None:
    """Prints a table to standard output: to the width of a terminal, else each row on one line whatever its length.

    Args:
        table: The table.
        droppable: Headings of columns that a narrow terminal need not show, the one to leave out first first.
    """
    console = Console(highlight=False)
    if console.is_terminal:
        fitted, dropped = _fitted(table, droppable, console)
        console.print(fitted)
        if dropped:
            left_out = [str(column.header) for column in table.columns if column.header in dropped]
            console.print(f"Not shown, for a wider terminal or --json: {', '.join(left_out)}", style="dim")
        return
    wide = Console(highlight=False, width=_UNBOUNDED_WIDTH)
    with wide.capture() as capture:
        wide.print(table)
    for line in capture.get().splitlines():
        console.file.write(f"{line.rstrip()}\n")


def fitted_table(table: Table, droppable: Sequence[str], console: Console) -> Table:
    """A table without the columns for which a terminal is too narrow; as ``print_table``."""
    return _fitted(table, droppable, console)[0]


def _fitted(table: Table, droppable: Sequence[str], console: Console) -> tuple[Table, list[str]]:
    """Leaves columns out until the table fits into the console; returns it, and their headings."""
    dropped: list[str] = []
    unbounded = console.options.update(max_width=_UNBOUNDED_WIDTH)
    for heading in droppable:
        if Measurement.get(console, unbounded, table).maximum <= console.width:
            break
        table = _without(table, heading)
        dropped.append(heading)
    return table, dropped


def _without(table: Table, heading: str) -> Table:
    kept = [column for column in table.columns if column.header != heading]
    smaller = new_table(*[f"{'>' if column.justify == 'right' else ''}{column.header}" for column in kept])
    for row in zip(*[column.cells for column in kept], strict=True):
        smaller.add_row(*row)
    return smaller


def new_table(*headings: str) -> Table:
    """A table with the given headings; ">" marks a column of numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(
            heading.removeprefix(">"),
            justify="right" if heading.startswith(">") else "left",
            no_wrap=heading not in _MAY_GO_ON,
            overflow="fold",
        )
    return table


def duration(seconds: float) -> str:
    """Writes a time for people, as "3 min"."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 2 * 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
