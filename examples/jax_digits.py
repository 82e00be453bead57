"""Trains a convolutional net of JAX on a cluster.

Every worker runs this script on its part of the digits.

    shardscope up --ps 2 --workers 3 -- python examples/jax_digits.py
    shardscope up --workers 3 -- python examples/jax_digits.py --sync "ssp(3)"

The ps tasks make the steps of the optimizer. With --optax each worker makes
those of optax's Adam, and what it pushes are the changes. With `up --durability
journal` or `up --replicas 1` a ps may be killed in the middle. Alone, as
`python examples/jax_digits.py`, it starts a cluster of its own.
"""

import argparse
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import shardscope as ss

DATA = Path(__file__).parent / "data" / "digits.csv.gz"
HELD_OUT = 360


def load_digits():
    """Returns training images [1437, 8, 8, 1] and digits [1437], then held-out images [360, 8, 8, 1] and digits."""
    table = np.loadtxt(DATA, delimiter=",", dtype=np.float32)
    table = table[np.random.default_rng(0).permutation(len(table))]  # the same split on every worker
    images, digits = table[:, :-1].reshape(-1, 8, 8, 1) / 16, table[:, -1].astype(np.int32)
    return images[HELD_OUT:], digits[HELD_OUT:], images[:HELD_OUT], digits[:HELD_OUT]


def layer(draw, *shape):
    """Returns the weights of a layer, of random numbers as He et al. scale them, and its biases."""
    scale = np.sqrt(2 / np.prod(shape[:-1]))
    return {"w": (scale * draw.standard_normal(shape)).astype(np.float32), "b": np.zeros(shape[-1], np.float32)}


def new_params(seed):
    """Returns what the first worker's model begins with, and so that of all."""
    draw = np.random.default_rng(seed)
    return {
        "conv": [layer(draw, 3, 3, 1, 16), layer(draw, 3, 3, 16, 32)],
        "hidden": layer(draw, 4 * 4 * 32, 64),
        "out": layer(draw, 64, 10),
    }


def scores(params, images):
    """Returns a score for each digit, [n, 10]: the highest one is what the model sees."""
    x = images
    for conv in params["conv"]:
        x = jax.lax.conv_general_dilated(x, conv["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x + conv["b"])
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jax.nn.relu(x.reshape(len(x), -1) @ params["hidden"]["w"] + params["hidden"]["b"])
    return x @ params["out"]["w"] + params["out"]["b"]


def loss(params, images, digits):
    """Returns the mean cross-entropy."""
    return -jnp.mean(jax.nn.log_softmax(scores(params, images))[jnp.arange(len(digits)), digits])


@jax.jit
def accuracy(params, images, digits):
    """Part of the images whose digit is recognised."""
    return jnp.mean(scores(params, images).argmax(axis=1) == digits)


def by_optax(rate):
    """Returns a step of optax's Adam: the changes of the parameters, and its next state; and its first state."""
    import optax  # noqa: PLC0415 - needed for this alone

    adam = optax.adam(rate)

    @jax.jit
    def step(params, state, images, digits):
        value, gradients = jax.value_and_grad(loss)(params, images, digits)
        return value, *adam.update(gradients, state, params)

    return step, adam.init


def by_ps(_rate):
    """Returns a step whose optimizer is on the ps tasks: the gradients alone; and that there is no state."""

    @jax.jit
    def step(params, state, images, digits):
        value, gradients = jax.value_and_grad(loss)(params, images, digits)
        return value, gradients, state

    return step, lambda _params: None


def main():
    """Returns the exit code: 1 if the model has not become as good as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=64, help="images in a step (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the images (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn (default: %(default)s)")
    parser.add_argument("--min-accuracy", type=float, default=0.0, help="fail below it (default: %(default)s)")
    parser.add_argument("--sync", help="how workers train together: bsp, ssp(3), sync(2), async (default: each alone)")
    parser.add_argument("--optax", action="store_true", help="make the steps of Adam on the workers")
    args = parser.parse_args()
    if args.optax and args.sync:
        parser.error("--sync is of optimizers on the ps tasks; leave out --optax")

    images, digits, held_out_images, held_out_digits = load_digits()
    client = ss.connect(None if "TF_CONFIG" in os.environ else ss.LocalCluster(num_workers=1).start().cluster_spec)
    index, count = client.shard
    images, digits = images[index::count], digits[index::count]
    random = np.random.default_rng([args.seed, index])

    params = new_params(args.seed)
    optimizer = None if args.optax else ss.train.Adam(args.rate)
    shared = ss.jax.share(params, "net", optimizer=optimizer, sync=args.sync)
    step, first_state = (by_optax if args.optax else by_ps)(args.rate)
    state = first_state(params)
    for epoch in range(1, args.epochs + 1):
        rows = random.permutation(len(images))
        for batch in rows[: len(rows) // args.batch_size * args.batch_size].reshape(-1, args.batch_size):
            params = shared.pull()
            value, update, state = step(params, state, images[batch], digits[batch])
            shared.push(update)
        if epoch % 5 == 0:
            print(f"epoch {epoch:>3} of {args.epochs}  loss {value:.4f}", flush=True)
    found = float(accuracy(shared.pull(fresh=True), held_out_images, held_out_digits))
    print(f"held-out accuracy {found:.3f} after {args.epochs} epochs", flush=True)
    return int(found < args.min_accuracy)


if __name__ == "__main__":
    raise SystemExit(main())
