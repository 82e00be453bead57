"""One worker of ``benchmarks.adapters``: steps by an adapter beside the same steps by hand, or training of a small net.

``python -m benchmarks.drivers.adapted JOB``, where JOB is a JSON object; it prints what it has measured as another one.
The cluster is that of ``TF_CONFIG``.
"""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch

import shardscope as ss
from benchmarks.drivers.shardscope import connect
from benchmarks.harness.processes import cpu_seconds, wait_until_they_rest
from benchmarks.peers.conv_net import BATCH, RATE, WARM_UP, accuracy, conv_net, loss_of, resnet18_shapes, tensors
from benchmarks.peers.training_images import load_images

TIMEOUT_S: Final = 120.0
RAW: Final = "read_all, apply_gradients"
READ: Final = "read_all alone"
APPLY: Final = "apply_gradients alone"
RAW_MIRROR: Final = "apply_gradients(pull=mirror)"
RAW_JAX: Final = "read_all, jnp.array, apply_gradients"
COPY: Final = "np.copyto"
_WARM_STEPS: Final = 10
_TRACED_STEPS: Final = 3

Array = np.ndarray[Any, Any]
Step = Callable[[], object]


def shapes_of(model: str) -> list[tuple[int, ...]]:
    """Shapes of a model's parameters."""
    if model == "conv":
        return [tuple(each.shape) for each in conv_net("small").parameters()]
    return resnet18_shapes()


# -- steps of an adapter, and by hand ------------------------------------------------------------


def by_numpy(client: ss.Client, values: Sequence[Array], gradients: Sequence[Array]) -> Step:
    """A step of ``ss.numpy``."""
    params = {f"p{number}": value.copy() for number, value in enumerate(values)}
    given = dict(zip(params, gradients, strict=True))
    shared = ss.numpy.share(params, "numpy", optimizer=ss.train.GradientDescent(1e-6, name="numpy"), client=client)

    def step() -> None:
        shared.pull()
        shared.push(given)

    return step


def by_torch(client: ss.Client, values: Sequence[Array], gradients: Sequence[Array]) -> Step:
    """A step of ``ss.torch``, with gradients as ``backward`` leaves them."""
    model = torch.nn.ParameterList([torch.nn.Parameter(torch.from_numpy(each.copy())) for each in values])
    pairs = list(zip(model.parameters(), map(torch.from_numpy, gradients), strict=True))
    shared = ss.torch.share(model, "torch", optimizer=ss.train.GradientDescent(1e-6, name="torch"), client=client)

    def step() -> None:
        shared.pull()
        for parameter, gradient in pairs:
            parameter.grad = gradient
        shared.step()

    return step


def by_hand_with_jax(raw: Callable[[], list[Array]], push: Callable[[Sequence[Any]], object], gradients: Any) -> Step:
    """The same step by hand, of arrays of JAX: what is read is copied, since it changes with the next step."""
    import jax.numpy as jnp  # noqa: PLC0415 - as below

    given = [jnp.array(each) for each in gradients]

    def step() -> None:
        [jnp.array(each) for each in raw()]
        push(given)

    return step


def by_jax(client: ss.Client, values: Sequence[Array], gradients: Sequence[Array]) -> Step:
    """A step of ``ss.jax``."""
    import jax.numpy as jnp  # noqa: PLC0415 - the others do without

    params = [jnp.array(each) for each in values]
    given = [jnp.array(each) for each in gradients]
    shared = ss.jax.share(params, "jax", optimizer=ss.train.GradientDescent(1e-6, name="jax"), client=client)

    def step() -> None:
        shared.pull()
        shared.push(given)

    return step


_ADAPTERS: Final = {"numpy": by_numpy, "torch": by_torch, "jax": by_jax}


def by_hand(
    client: ss.Client, values: Sequence[Array], gradients: Sequence[Array], *, with_jax: bool
) -> dict[str, Step]:
    """The same steps without an adapter, and the copies of what a step moves: parameters here, gradients away."""
    largest_first = sorted(range(len(values)), key=lambda number: values[number].nbytes, reverse=True)
    with ss.variable_scope("raw"):  # on the same ps tasks as by the adapters
        made = {number: ss.get_variable(f"p{number}", initializer=values[number]) for number in largest_first}
    variables = [made[number] for number in range(len(values))]
    outs = [each.copy() for each in values]
    away = [each.copy() for each in values]
    optimizer = ss.train.GradientDescent(1e-6, name="raw")
    mirror = client.mirror(variables)
    pairs = list(zip(gradients, variables, strict=True))

    def pull() -> list[Array]:
        return client.read_all(variables, out=outs)

    def push(given: Sequence[Any]) -> None:
        optimizer.apply_gradients(zip(given, variables, strict=True))

    def raw() -> None:
        pull()
        push(gradients)

    def copy() -> None:
        for value, out in zip(values, outs, strict=True):
            np.copyto(out, value)
        for gradient, out in zip(gradients, away, strict=True):
            np.copyto(out, gradient)

    steps: dict[str, Step] = {
        RAW: raw,
        READ: pull,
        APPLY: lambda: push(gradients),
        RAW_MIRROR: lambda: optimizer.apply_gradients(pairs, pull=mirror),
        COPY: copy,
    }
    if with_jax:
        steps[RAW_JAX] = by_hand_with_jax(pull, push, gradients)
    return steps


def compare(client: ss.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Has all workers make each kind of step at the same time, by turns; returns the seconds of each step."""
    draw = np.random.default_rng(client.task.index)
    values = [draw.standard_normal(shape).astype(np.float32) for shape in shapes_of(job["model"])]
    gradients = [draw.standard_normal(each.shape).astype(np.float32) for each in values]
    steps = by_hand(client, values, gradients, with_jax="jax" in job["adapters"])
    for name in job["adapters"]:
        steps[name] = _ADAPTERS[name](client, values, gradients)
    taken_s: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(job["rounds"] + 1):
        for name, step in steps.items():
            client.barrier(f"{number} {name}", TIMEOUT_S)
            if number == 1 and name == RAW:
                rest(client, job)
            for _ in range(job["steps"] if number else _WARM_STEPS):
                began_s = time.perf_counter()
                step()
                if number:
                    taken_s[name].append(time.perf_counter() - began_s)
    return {
        "bytes": sum([each.nbytes for each in values]),
        "seconds": taken_s,
        "allocated": {name: allocated(steps[name]) for name in [RAW, *job["adapters"]]},
    }


def rest(client: ss.Client, job: dict[str, Any]) -> None:
    """Has all workers wait until the ps tasks rest."""
    if client.task.index == 0:
        wait_until_they_rest(job["ps_pids"], job["rest_s"])
    client.barrier("rest", TIMEOUT_S + job["rest_s"])


def allocated(step: Step) -> int:
    """The most bytes by which Python's and NumPy's memory has grown during a step."""
    step()
    most = 0
    tracemalloc.start()
    try:
        for _ in range(_TRACED_STEPS):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            step()
            most = max(most, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return most


# -- training ------------------------------------------------------------------------------------


def train(client: ss.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Trains the small net together with the others, once all are there; returns this worker's steps."""
    net = conv_net(job["net"])
    optimizer = ss.train.GradientDescent(RATE, sync=job["sync"])
    shared = ss.torch.share(net, "net", optimizer=optimizer, client=client, overlap=job["overlap"])
    images, digits, held_out_images, held_out_digits = tensors(load_images(), job["net"])
    random = np.random.default_rng(client.task.index)

    def step() -> None:
        rows = torch.from_numpy(random.integers(0, len(images), BATCH))
        shared.pull()
        loss_of(net(images[rows]), digits[rows]).backward()
        shared.step()

    for _ in range(WARM_UP):
        step()
    if job["sync"]:
        shared.finish()  # who waits at a barrier must not be waited for in a round
    rest(client, job)
    ps_s = sum(map(cpu_seconds, job["ps_pids"]))
    steps, used_s, end_s = 0, time.process_time(), time.perf_counter() + job["seconds"]
    while time.perf_counter() < end_s:
        step()
        steps += 1
    used_s = time.process_time() - used_s
    ps_s = sum(map(cpu_seconds, job["ps_pids"])) - ps_s
    if job["sync"]:
        shared.finish()
    client.barrier("end", TIMEOUT_S)
    shared.pull(fresh=True)
    return {"steps": steps, "used_s": used_s, "ps_s": ps_s, "accuracy": accuracy(net, held_out_images, held_out_digits)}


def main() -> None:
    """Does the job and prints what it has measured."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    with connect(None, job["transport"]) as client:
        found = (train if job["do"] == "train" else compare)(client, job)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
