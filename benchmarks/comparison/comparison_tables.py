"""What ``python -m benchmarks`` shows: ratios, times, and which targets are met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.comparison.targets import LIMIT, TARGETS
from benchmarks.harness.record import Record
from benchmarks.harness.samples import ratio
from benchmarks.harness.tables import Table, duration, number
from benchmarks.harness.workloads import SCALES, WORKLOADS

# What bounds a transport at a workload: where many bytes stay in memory, a copy of them; else TCP's loopback.
_COPIED_WORKLOADS = ("pull", "push", "pull161", "push161")
_LIMIT_VARIANTS = ("tcp", "memcpy", "add in place")


class _Cases:
    """The figures of a record, by contestant, workload and variant."""

    def __init__(self, record: Record):
        results = record["results"]
        self.kinds: Mapping[str, str] = {name: each["kind"] for name, each in results["contestants"].items()}
        self.workloads = list(dict.fromkeys(case["workload"] for case in results["cases"]))
        self._cases = {(case["contestant"], case["workload"], case["variant"]): case for case in results["cases"]}

    def of_kind(self, kind: str) -> list[str]:
        return [name for name, each in self.kinds.items() if each == kind]

    def of(self, contestant: str, workload: str) -> dict[str, Any]:
        """Returns the cases of a contestant by variant."""
        return {
            variant: case
            for (name, work, variant), case in self._cases.items()
            if (name, work) == (contestant, workload)
        }

    def first(self, contestant: str, workload: str) -> Any:
        return next(iter(self.of(contestant, workload).values()), None)

    def limit(self, transport: str, workload: str) -> Any:
        """Returns what the bare machine took for the same bytes, if that was measured."""
        variant = "memcpy" if transport == "shm" and workload in _COPIED_WORKLOADS else "tcp"
        return self._cases.get(("limit", workload, variant))


def tables(record: Record) -> list[Table]:
    """Returns the ratios of each transport, the times of all contestants, and which targets are met."""
    cases = _Cases(record)
    return [
        *(_ratio_table(record, cases, transport) for transport in cases.of_kind("own")),
        _time_table(record, cases, "p50", "Medians"),
        _time_table(record, cases, "p99", "99th percentiles"),
        *_target_tables(record, cases),
    ]


def _titles(record: Record) -> dict[str, str]:
    scale = SCALES[record["results"]["scale"]]
    return {name: workload.title_at(scale) for name, workload in WORKLOADS.items()}


def _ratio_table(record: Record, cases: _Cases, transport: str) -> Table:
    peers = cases.of_kind("peer")
    against = [f"{peer} ÷ {transport}" for peer in peers]
    table = Table(f"Shardscope by {transport}", ["work", "median", "p99", *against, f"{transport} ÷ limit", "limit"])
    titles = _titles(record)
    for workload in cases.workloads:
        unit, limit = WORKLOADS[workload].unit, cases.limit(transport, workload)
        for variant, case in cases.of(transport, workload).items():
            ratios = [_ratio(cases.first(peer, workload), case) for peer in peers]
            bound = "-" if limit is None else limit["variant"]
            quantiles = (duration(case["all"][name], unit) for name in ("p50", "p99"))
            table.rows.append([_labelled(titles[workload], variant), *quantiles, *ratios, _ratio(case, limit), bound])
    return table


def _time_table(record: Record, cases: _Cases, quantile: str, title: str) -> Table:
    """Returns one quantile of every contestant, of the first variant where it has several; limits by variant."""
    measured = [*cases.of_kind("own"), *cases.of_kind("peer")]
    table = Table(title, ["work", *measured, *(f"limit, {variant}" for variant in _LIMIT_VARIANTS)])
    titles = _titles(record)
    for workload in cases.workloads:
        unit = WORKLOADS[workload].unit
        limits = cases.of("limit", workload)
        row = [cases.first(each, workload) for each in measured] + [limits.get(each) for each in _LIMIT_VARIANTS]
        cells = ["-" if case is None else duration(case["all"][quantile], unit) for case in row]
        table.rows.append([titles[workload], *cells])
    return table


def _target_tables(record: Record, cases: _Cases) -> list[Table]:
    """Returns the targets that the run can tell about, if there are any."""
    table = Table(
        "Targets", ["transport", "work", "ratio", "target", "measured", "worst and best round", "met"], labels=3
    )
    titles = _titles(record)
    for target in TARGETS:
        ours = cases.of(target.transport, target.workload)
        case = next(iter(ours.values()), None) if target.variant is None else ours.get(target.variant)
        is_limit, work = target.against == LIMIT, target.workload
        other = cases.limit(target.transport, work) if is_limit else cases.first(target.against, work)
        if case is None or other is None:
            continue
        found = ratio(case["rounds"], other["rounds"]) if is_limit else ratio(other["rounds"], case["rounds"])
        what = f"{target.transport} ÷ {other['variant']}" if is_limit else f"{target.against} ÷ {target.transport}"
        worst, best = (found["max"], found["min"]) if is_limit else (found["min"], found["max"])
        table.rows.append(
            [
                target.transport,
                _labelled(titles[work], case["variant"]),
                what,
                str(target),
                number(found["p50"]),
                f"{number(worst)}, {number(best)}",
                "yes" if target.is_met(found["p50"]) else "no",
            ]
        )
    return [table] if table.rows else []


def _labelled(title: str, variant: str) -> str:
    return f"{title}, {variant}" if variant else title


def _ratio(above: Any, below: Any) -> str:
    return "-" if above is None or below is None else number(ratio(above["rounds"], below["rounds"])["p50"])
