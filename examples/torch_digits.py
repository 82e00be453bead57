"""PyTorch's MNIST example on a cluster, with the digits of this folder.

Every worker runs this script on its part of the images, alone or together:

    shardscope up --ps 2 --workers 3 -- python examples/torch_digits.py
    shardscope up --workers 3 -- python examples/torch_digits.py --sync "ssp(3)"

torch_plain_digits.py is the same program for one process; diff shows what it
takes to get here. With ``up --durability journal``, or ``up --replicas 1``, a
ps may be killed in the middle. Without ``up`` it starts a cluster of its own.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import shardscope as ss

DATA = Path(__file__).parent / "data" / "digits.csv.gz"
HELD_OUT = 360


class Net(nn.Module):
    """Scores for the ten digits, as logarithms of probabilities [n, 10], of images [n, 1, 8, 8]."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3)
        self.conv2 = nn.Conv2d(16, 32, 3)
        self.dropout = nn.Dropout(0.25)
        self.fc1 = nn.Linear(128, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, images):
        x = functional.relu(self.conv1(images))
        x = functional.relu(self.conv2(x))
        x = torch.flatten(functional.max_pool2d(x, 2), 1)
        x = self.dropout(functional.relu(self.fc1(x)))
        return functional.log_softmax(self.fc2(x), dim=1)


def load_digits():
    """Returns 1437 images with their digits to train on, and 360 that are held out."""
    table = np.loadtxt(DATA, delimiter=",", dtype=np.float32)
    table = torch.from_numpy(table[np.random.default_rng(0).permutation(len(table))])  # the same split on every worker
    images, digits = table[:, :-1].reshape(-1, 1, 8, 8) / 16, table[:, -1].long()
    return TensorDataset(images[HELD_OUT:], digits[HELD_OUT:]), TensorDataset(images[:HELD_OUT], digits[:HELD_OUT])


def train(args, model, loader, optimizer, epoch):
    """Trains for one epoch."""
    model.train()
    for images, digits in loader:
        optimizer.pull()
        loss = functional.nll_loss(model(images), digits)
        loss.backward()
        optimizer.step()
    if epoch % args.log_interval == 0:
        print(f"epoch {epoch:>3} of {args.epochs}  loss {loss.item():.4f}", flush=True)


def test(model, loader):
    """Returns the part of the images whose digit is recognised."""
    model.eval()
    with torch.no_grad():
        right = sum((model(images).argmax(dim=1) == digits).sum().item() for images, digits in loader)
    return right / len(loader.dataset)


def main():
    """Returns the exit code: 1 if the model has not become as good as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=64, help="images in a step (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the images (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=1.0, help="learning rate (default: %(default)s)")
    parser.add_argument("--gamma", type=float, default=0.95, help="its factor after each epoch (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn (default: %(default)s)")
    parser.add_argument("--log-interval", type=int, default=5, help="epochs between lines (default: %(default)s)")
    parser.add_argument("--min-accuracy", type=float, default=0.0, help="fail below it (default: %(default)s)")
    parser.add_argument("--sync", help="how workers train together: bsp, ssp(3), sync(2), async (default: each alone)")
    args = parser.parse_args()

    torch.set_num_threads(1)  # the images are small
    torch.manual_seed(args.seed)
    training, held_out = load_digits()
    client = ss.connect(None if "TF_CONFIG" in os.environ else ss.LocalCluster(num_workers=1).start().cluster_spec)
    training = TensorDataset(*training[client.shard[0] :: client.shard[1]])
    loader = DataLoader(training, batch_size=args.batch_size, shuffle=True)
    model = Net()
    optimizer = ss.torch.share(model, "net", optimizer=ss.train.Adadelta(args.lr, epsilon=1e-6), sync=args.sync)
    for epoch in range(1, args.epochs + 1):
        train(args, model, loader, optimizer, epoch)
        optimizer.learning_rate *= args.gamma
    optimizer.pull(fresh=True)
    accuracy = test(model, DataLoader(held_out, batch_size=HELD_OUT))
    print(f"held-out accuracy {accuracy:.3f} after {args.epochs} epochs", flush=True)
    return int(accuracy < args.min_accuracy)


if __name__ == "__main__":
    raise SystemExit(main())
