"""Ray as a contestant: an actor holds the arrays, this process calls it. Runs in an environment with ray and numpy."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import ray

from benchmarks.harness.line_protocol import Call, scale_argument, serve
from benchmarks.harness.workloads import SCALES, Scale, observed_state, ones

_OBJECT_STORE_BYTES = 3 << 30

Array = npt.NDArray[Any]


class Holder:
    """What the actor's process holds."""

    def __init__(self, scale: Scale):
        self._values: dict[str, Any] = {
            "scalar": np.zeros((), np.float32),
            "vector": np.zeros(scale.elements, np.float32),
            "table": np.zeros((scale.rows, scale.width), np.float32),
            "layers": [np.zeros(scale.layer, np.float32) for _ in range(scale.layers)],
        }

    def read(self, name: str) -> Any:
        return self._values[name]

    def add(self, name: str, delta: Any) -> None:
        self._values[name] += delta

    def add_to_layers(self, deltas: Sequence[Array]) -> None:
        for layer, delta in zip(self._values["layers"], deltas, strict=True):
            np.add(layer, delta, out=layer)

    def gather(self, indices: Array) -> Array:
        rows: Array = self._values["table"][indices]
        return rows

    def scatter(self, indices: Array, rows: Array) -> None:
        np.add.at(self._values["table"], indices, rows)


class RayContestant:
    """The contestant."""

    name = "ray"

    def __init__(self, scale: Scale):
        self.versions: Mapping[str, str] = {"ray": ray.__version__, "numpy": np.__version__}
        self._scale = scale
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=_OBJECT_STORE_BYTES)
        self._holder = ray.remote(num_cpus=0)(Holder).remote(scale)

    def _call(self, method: str, *arguments: Any) -> Any:
        return ray.get(getattr(self._holder, method).remote(*arguments))

    def cases(self) -> Mapping[str, Mapping[str, Call]]:
        one = np.float32(1)
        delta, row_deltas, layer_deltas = ones(self._scale)
        uniform, zipf = self._scale.uniform_indices(), self._scale.zipf_indices()

        def bound(method: str, *arguments: Any) -> dict[str, Callable[[], Any]]:
            return {"": lambda: self._call(method, *arguments)}

        return {
            "add": bound("add", "scalar", one),
            "read": bound("read", "scalar"),
            "pull": bound("read", "vector"),
            "push": bound("add", "vector", delta),
            "gather": bound("gather", uniform),
            "scatter": bound("scatter", uniform, row_deltas),
            "scatter_zipf": bound("scatter", zipf, row_deltas),
            "pull161": bound("read", "layers"),
            "push161": bound("add_to_layers", layer_deltas),
        }

    def observed(self) -> Mapping[str, float]:
        rows = self._call("gather", self._scale.uniform_indices())
        scalar, vector, layers = (self._call("read", name) for name in ("scalar", "vector", "layers"))
        return observed_state(scalar, vector, rows, layers)

    def close(self) -> None:
        ray.shutdown()


def main() -> None:
    """Serves requests on standard input."""
    parser = argparse.ArgumentParser(description=__doc__)
    scale_argument(parser)
    scale = SCALES[parser.parse_args().scale]
    serve(lambda: RayContestant(scale), scale)


if __name__ == "__main__":
    main()
