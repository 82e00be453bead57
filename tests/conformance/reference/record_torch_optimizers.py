"""Records what torch's optimizers do that TensorFlow 1 does not have.

    python record_torch_optimizers.py SEED OUT_DIR     (needs torch 2.13)

Writes ``torch_optimizers.json``: cases in float64, dense, with the values after each step.
"""

import json
import os
import sys

import torch

OPTIMIZERS = [
    ("adamw", torch.optim.AdamW, {"lr": 0.01}, {"learning_rate": 0.01}),
    ("adamw", torch.optim.AdamW, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.3},
     {"learning_rate": 0.05, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-4, "weight_decay": 0.3}),
    ("adamw", torch.optim.AdamW, {"lr": 0.05, "betas": (0.8, 0.5), "weight_decay": 0.1, "amsgrad": True},
     {"learning_rate": 0.05, "beta1": 0.8, "beta2": 0.5, "weight_decay": 0.1, "amsgrad": 1.0}),
    ("adam", torch.optim.Adam, {"lr": 0.05, "betas": (0.8, 0.5), "eps": 0.0, "amsgrad": True},
     {"learning_rate": 0.05, "beta1": 0.8, "beta2": 0.5, "epsilon": 0.0, "amsgrad": 1.0}),
    ("momentum", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True},
     {"learning_rate": 0.1, "momentum": 0.9, "use_nesterov": 1.0}),
    ("adadelta", torch.optim.Adadelta, {"lr": 0.5, "rho": 0.8, "eps": 1e-3},
     {"learning_rate": 0.5, "rho": 0.8, "epsilon": 1e-3}),
]


def cases():
    for rule, optimizer, options, settings in OPTIMIZERS:
        value = torch.nn.Parameter(torch.randn(6, 5, dtype=torch.float64))
        one, steps = optimizer([value], **options), []
        initial = value.tolist()
        for _ in range(8):
            value.grad = torch.randn(6, 5, dtype=torch.float64)
            one.step()
            steps.append({"gradient": value.grad.tolist(), "value": value.tolist()})
        yield {"rule": rule, "settings": settings, "initial": initial, "steps": steps}


if __name__ == "__main__":
    torch.manual_seed(int(sys.argv[1]))
    with open(os.path.join(sys.argv[2], "torch_optimizers.json"), "w") as out:
        json.dump(list(cases()), out, indent=None)
        out.write("\n")
