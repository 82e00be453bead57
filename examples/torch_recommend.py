"""Learns who likes which film: factors of users and films, in tables on the ps tasks.

    shardscope up --ps 2 --workers 3 -- python examples/torch_recommend.py
    shardscope up --ps 2 --workers 3 -- python examples/torch_recommend.py --sync bsp

The ratings are those of MovieLens-100k where the package recbole is installed, which brings them
(``pip install --no-deps recbole``), or in the file that ``--data`` names. They are GroupLens', whose terms allow
research but neither passing them on nor commercial use without permission, and ask to cite F. M. Harper and
J. A. Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015. They are read there and not shipped with this program.
Without them, ratings are drawn from factors that are known, and so is the least error that any program can reach.

Alone, as ``python examples/torch_recommend.py``, it starts a cluster of its own.
"""

import argparse
import importlib.util
import math
import os
from pathlib import Path

import numpy as np
import torch

import shardscope as ss

FILE = "dataset_example/ml-100k/ml-100k.inter"
NOISE = 0.4
"""Of the ratings that are drawn."""


class Factors(torch.nn.Module):
    """Ratings [n] of users [n] for films [n]: their means, and how well their factors fit each other.

    A row of a table has a user's factors, or a film's, and how far its ratings are from the mean.
    """

    def __init__(self, num_users, num_films, num_factors, mean, optimizer, num_parts):
        super().__init__()
        self.mean = mean
        self.users, self.films = (
            ss.torch.ParameterServerEmbedding(
                size,
                num_factors + 1,
                name,
                optimizer=optimizer,
                partitioner=ss.fixed_size_partitioner(num_parts),
                initializer=ss.random_normal_initializer(0.0, 0.1),
            )
            for size, name in ((num_users, "users"), (num_films, "films"))
        )

    def forward(self, users, films):
        of_users, of_films = self.users(users), self.films(films)
        fits = (of_users[:, :-1] * of_films[:, :-1]).sum(dim=1)
        return self.mean + of_users[:, -1] + of_films[:, -1] + fits, of_users.square().sum() + of_films.square().sum()


def find_file():
    """Returns where recbole has MovieLens-100k, which is not imported; None if it is not installed."""
    found = importlib.util.find_spec("recbole")
    paths = [Path(each) / FILE for each in found.submodule_search_locations] if found else []
    return next((each for each in paths if each.is_file()), None)


def read_ratings(path):
    """Returns users, films and ratings of a file of recbole's, with users and films numbered from 0."""
    with Path(path).open(encoding="utf-8") as lines:
        if next(lines).split("\t")[:3] != ["user_id:token", "item_id:token", "rating:float"]:
            raise SystemExit(f"{path} is no file of interactions of recbole's")
        table = np.array([line.split("\t")[:3] for line in lines])
    users, films = (np.unique(table[:, column], return_inverse=True)[1] for column in (0, 1))
    return users, films, table[:, 2].astype(np.float32)


def draw_ratings(num_ratings, num_factors=4):
    """Returns users, films and ratings that are drawn, and the part of each rating that nobody can know."""
    drawn = np.random.default_rng(11)
    num_users, num_films = (math.ceil(each * math.sqrt(num_ratings)) for each in (1.6, 1.2))
    pairs = drawn.permutation(num_users * num_films)[:num_ratings]
    users, films = pairs // num_films, pairs % num_films
    of_users, of_films = (drawn.normal(0, 0.6, [size, num_factors]) for size in (num_users, num_films))
    own = drawn.normal(0, 0.4, num_users)[users] + drawn.normal(0, 0.4, num_films)[films]
    noise = drawn.normal(0, NOISE, len(pairs))
    ratings = 3.5 + own + (of_users[users] * of_films[films]).sum(axis=1) + noise
    return users, films, ratings.astype(np.float32), noise


def error_of_means(train, test, damping=5.0):
    """Returns the error on the test ratings of the damped means of users and films: what factors have to beat."""
    users, films, ratings = train
    mean = ratings.mean()

    def damped(keys, values, size):
        return np.bincount(keys, values, size) / (np.bincount(keys, minlength=size) + damping)

    size = 1 + max(each.max() for each in (*train[:2], *test[:2]))
    of_films = damped(films, ratings - mean, size)
    of_users = damped(users, ratings - mean - of_films[films], size)
    return rmse(mean + of_users[test[0]] + of_films[test[1]], test[2])


def rmse(found, ratings):
    """Returns the root of the mean of the squared errors."""
    return float(np.sqrt(np.mean(np.square(np.asarray(found) - ratings))))


def main():
    """Returns the exit code: 1 if the error is not as small as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="MovieLens' ratings, as recbole has them (default: recbole's)")
    parser.add_argument("--drawn", type=int, metavar="N", help="draw N ratings, whatever there is")
    parser.add_argument("--factors", type=int, default=8, help="of a user, and of a film (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=500, help="ratings in a step (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the ratings (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=0.01, help="learning rate of Adam (default: %(default)s)")
    parser.add_argument("--decay", type=float, help="of factors, for each rating (default: 0.1, or 0.02 if drawn)")
    parser.add_argument("--max-rmse", type=float, default=math.inf, help="fail above it")
    parser.add_argument("--sync", help="how workers train together: bsp, ssp(3), sync(2) (default: each alone)")
    args = parser.parse_args()

    torch.set_num_threads(1)  # the batches are small
    path = None if args.drawn else args.data or find_file()
    *data, noise = (*read_ratings(path), None) if path else draw_ratings(args.drawn or 60_000)
    decay = args.decay if args.decay is not None else 0.1 if path else 0.02
    order = np.random.default_rng(0).permutation(len(data[0]))  # the same split on every worker
    train, test = ([each[part] for each in data] for part in (order[len(order) // 10 :], order[: len(order) // 10]))

    client = ss.connect(None if "TF_CONFIG" in os.environ else ss.LocalCluster(num_workers=1).start().cluster_spec)
    index, count = client.shard
    num_parts = client.cluster_spec.num_tasks("ps")
    optimizer = ss.train.Adam(args.lr, sparse="lazy", sync=args.sync)
    sizes = [int(each.max()) + 1 for each in data[:2]]
    model = Factors(*sizes, args.factors, float(train[2].mean()), optimizer, num_parts)
    mine = [torch.from_numpy(each[index::count]) for each in train]
    if client.is_chief:
        source = path.name if path else "drawn"
        print(f"{len(order)} ratings by {sizes[0]} users of {sizes[1]} films, {source}", flush=True)
    for epoch in range(1, args.epochs + 1):
        for batch in torch.randperm(len(mine[0])).split(args.batch_size):
            users, films, ratings = (each[batch] for each in mine)
            found, squares = model(users, films)
            loss = (found - ratings).square().sum() + decay * squares
            (loss / len(batch)).backward()
        if epoch % 10 == 0:
            print(f"epoch {epoch:>3} of {args.epochs}  loss {loss.item() / len(batch):.4f}", flush=True)
    if args.sync:
        client.finish_together(optimizer.name)
    ss.barrier("trained")
    with torch.no_grad():
        error = rmse(model(*map(torch.from_numpy, test[:2]))[0], test[2])
    means = f"of their means {error_of_means(train, test):.3f}"
    known = "" if noise is None else f", least possible {rmse(noise[order[: len(test[0])]], 0.0):.3f}"
    print(f"test RMSE {error:.3f} ({means}{known})", flush=True)
    return int(error > args.max_rmse)


if __name__ == "__main__":
    raise SystemExit(main())
