"""The settings that both processes of a pair have to have in common, and what is wrong if they do not.

A backup that waits for less time than its primary takes the place of one that still answers. One without a journal
does not keep what its primary says is kept. One with less memory, or without the functions, cannot carry out every
record, and another seed or name of the cluster would count after a failover.
"""

from __future__ import annotations

from dataclasses import dataclass

from ps_protocol.v1 import replication_pb2


@dataclass(frozen=True, slots=True)
class PairSettings:
    """Those of one process.

    Attributes:
        place: Which process, as "backup:0".
        other: The other one of its task.
        lease_s: As ``--lease``.
        durability: As ``--durability`` names it.
        cluster_name: As ``--cluster-name``.
        job_seed: As ``--job-seed``, where it counts; else 0.
        memory_limit_bytes: As ``--memory-limit``; 0 for no limit.
        functions: As ``--functions``; empty for none.
    """

    place: str
    other: str
    lease_s: float
    durability: str = "none"
    cluster_name: str = "default"
    job_seed: int = 0
    memory_limit_bytes: int = 0
    functions: str = ""

    def encode(self) -> replication_pb2.PairSettings:
        """Returns what the other process is told."""
        return replication_pb2.PairSettings(
            lease_s=self.lease_s,
            durability=self.durability,
            cluster_name=self.cluster_name,
            job_seed=self.job_seed,
            memory_limit_bytes=self.memory_limit_bytes,
            functions=self.functions,
        )

    def objection(self, attachment: replication_pb2.Attachment) -> str:
        """Why this process cannot be the backup of one with other settings; empty if it can, or that one is older."""
        if not attachment.HasField("settings"):
            return ""
        theirs = attachment.settings
        pairs = {
            "--durability": (self.durability, theirs.durability),
            "--lease": (f"{self.lease_s:g}", f"{theirs.lease_s:g}"),
            "--cluster-name": (self.cluster_name, theirs.cluster_name),
            "--job-seed": (str(self.job_seed), str(theirs.job_seed)),
        }
        differing = [
            f"{self.place} has {option} {mine}, and {self.other} {option} {other}"
            for option, (mine, other) in pairs.items()
            if mine != other
        ]
        if differing:
            return f"{'; '.join(differing)}: start both processes with the same"
        mine, other = self.memory_limit_bytes, theirs.memory_limit_bytes
        if mine and not 0 < other <= mine:
            return (
                f"{self.place} has --memory-limit {mine}, and {self.other} "
                f"{f'--memory-limit {other}' if other else 'no limit'}: start {self.place} with at least as much"
            )
        if theirs.functions and not self.functions:
            return f"{self.place} has no --functions, and {self.other} has {theirs.functions}: start both with the same"
        return ""
