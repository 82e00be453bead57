"""The direct way to a ps in this very process: its typed core, nothing encoded.

The only module of the client that imports ``ps_server``. Variables that live in the worker and the contract tests
use it.
"""

from __future__ import annotations

from ps_protocol.cluster_spec import ClusterSpec
from ps_server.core.parameter_server import ParameterServer
from worker_client.transport.endpoint import PsEndpoint


def endpoint_of(core: ParameterServer) -> PsEndpoint:
    """Returns a core of this process as a client calls it."""
    return PsEndpoint(core, core, address="this process")


def private_store(*, job_seed: int = 0) -> PsEndpoint:
    """Returns a ps task of its own, in memory, that no other process can reach."""
    return endpoint_of(
        ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0, job_seed=job_seed)
    )
