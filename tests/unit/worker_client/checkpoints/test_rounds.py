"""What is kept for rounds of training together is in no checkpoint, and begins anew with a restore."""

from __future__ import annotations

import json
from pathlib import Path

from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Read, VariableSpec
from ps_protocol.training.round_operations import ROUND_LAYOUTS, STAMP_KIND
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster
from worker_client.connection.fanout import Routed
from worker_client.placement.beside import Beside, declare_beside

DTYPE, SHAPE = ROUND_LAYOUTS[STAMP_KIND]
SPEC = VariableSpec("rounds/stamp", DTYPE, SHAPE, object_kind=STAMP_KIND)


def test_rounds_begin_anew_with_a_restore(tmp_path: Path) -> None:
    with SmallCluster(2) as cluster:
        client = cluster.client()
        model = Model(client)
        model.train(0, 3)
        declare_beside(client.fanout, [Beside(SPEC, InitializerSpec(ConstantKind(7.0)), 1)])
        path = client.save(tmp_path / "saved").path
        before = model.values()
        model.train(3, 2)
        client.restore(path)
        (stamp,) = client.fanout.run_all([Routed(1, Read(SPEC.name))])
        assert stamp.tensor is not None
        assert stamp.tensor.tolist() == [0, 0]
        assert [each.tobytes() for each in model.values()] == [each.tobytes() for each in before]
    assert SPEC.name not in json.dumps([each.read_text() for each in Path(path).glob("*.json")])
