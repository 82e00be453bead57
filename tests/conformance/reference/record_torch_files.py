"""Records safetensors that PyTorch's libraries write, and what they read (needs torch, safetensors, huggingface_hub).

    python record_torch_files.py traces/torch_files.tar.xz
    python record_torch_files.py --read FILE_OR_FOLDER     # prints what they read from one

In the archive each folder has the files of a model's ``state_dict`` and ``expected.json``: the path to open, and of each
name the dtype, the shape and the elements as bytes (in hexadecimal).
"""

from __future__ import annotations

import json
import lzma
import sys
import tarfile
import tempfile
from pathlib import Path

import torch
from huggingface_hub import load_torch_model, save_torch_state_dict
from safetensors.torch import load_file, save_file


def model() -> torch.nn.Module:
    """A small model with parameters and buffers of several dtypes."""
    torch.manual_seed(0)
    made = torch.nn.Sequential(
        torch.nn.Embedding(20, 4),
        torch.nn.Linear(4, 8),
        torch.nn.BatchNorm1d(8),
        torch.nn.Linear(8, 2, bias=False).to(torch.bfloat16),
    )
    made.register_buffer("mask", torch.tensor([True, False, True]))
    made.register_buffer("empty", torch.zeros(0, 3))
    return made


def tensors() -> dict[str, torch.Tensor]:
    """A tensor of each dtype that the format and NumPy have."""
    dtypes = {
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64),
        *(torch.uint16, torch.uint32, torch.uint64),
    }
    ramp = torch.arange(6, dtype=torch.float32).reshape(2, 3) / 2
    return {str(dtype).removeprefix("torch."): ramp.to(dtype) for dtype in sorted(dtypes, key=str)}


def single(folder: Path) -> str:
    """A state_dict in one file."""
    save_file(model().state_dict(), folder / "model.safetensors", {"format": "pt"})
    return "model.safetensors"


def sharded(folder: Path) -> str:
    """A state_dict in several files with an index."""
    save_torch_state_dict(model().state_dict(), folder, max_shard_size=200)
    return "model.safetensors.index.json"


def every_dtype(folder: Path) -> str:
    """A tensor of each dtype."""
    save_file(tensors(), folder / "tensors.safetensors")
    return "tensors.safetensors"


def read(path: Path) -> dict[str, torch.Tensor]:
    """What the libraries read: of a folder the ``state_dict`` of the model, by its file or by its index."""
    if path.is_file():
        return load_file(path)
    found = model()
    for each in found.state_dict().values():
        each.zero_()
    load_torch_model(found, path, strict=True)
    return found.state_dict()


def as_recorded(found: dict[str, torch.Tensor]) -> dict[str, object]:
    """Tensors as they stand in ``expected.json``."""
    return {
        name: {
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "data": tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes().hex() if tensor.numel() else "",
        }
        for name, tensor in sorted(found.items())
    }


def main(path: str) -> None:
    """Writes the archive."""
    with lzma.open(path, "wb", preset=9) as compressed, tempfile.TemporaryDirectory() as root:
        for make, found in ((single, model().state_dict()), (sharded, model().state_dict()), (every_dtype, tensors())):
            folder = Path(root, make.__name__)
            folder.mkdir()
            answer = {"open": make(folder), "tensors": as_recorded(found)}
            (folder / "expected.json").write_text(json.dumps(answer), encoding="utf-8")
        with tarfile.open(fileobj=compressed, mode="w") as archive:
            for each in sorted(Path(root).rglob("*")):
                if each.is_file():
                    member = archive.gettarinfo(str(each), str(each.relative_to(root)))
                    member.uid = member.gid = member.mtime = 0
                    member.mode = 0o644
                    member.uname = member.gname = ""
                    with each.open("rb") as file:
                        archive.addfile(member, file)


if __name__ == "__main__":
    if sys.argv[1] == "--read":
        print(json.dumps(as_recorded(read(Path(sys.argv[2])))))
    else:
        main(sys.argv[1])
