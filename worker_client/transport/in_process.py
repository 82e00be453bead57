"""The direct way to a ps in this very process: its typed core, nothing encoded.

The one door through which the client knows ``ps_server``. Variables that live in the worker and the
contract tests go through it.
"""

from __future__ import annotations

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.ps_service import PsService
from ps_server.parameter_server import ParameterServer


def private_store(*, job_seed: int = 0) -> PsService:
    """Returns a ps task of its own, in memory, that no other process can reach."""
    return ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0, job_seed=job_seed)
