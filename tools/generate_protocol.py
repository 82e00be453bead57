"""Generates the packages in ``PACKAGES`` from ``proto/``, or with ``--check`` says whether they are current.

Runs in an environment of its own, ``tools/proto-requirements.txt``: see ``make proto``.
"""

from __future__ import annotations

import argparse
import filecmp
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (Path("ps_protocol/v1"), Path("ps_protocol/tensorflow_files"), Path("ps_server/coordination/etcd_api"))
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(target: Path) -> None:
    """Writes the generated modules below ``target``."""
    found = [path for package in PACKAGES for path in (ROOT / "proto" / package).glob("*.proto")]
    sources = sorted(str(path.relative_to(ROOT / "proto")) for path in found)
    outputs = [f"--{plugin}_out={target}" for plugin in ("python", "mypy", "grpc_python", "mypy_grpc")]
    plugin_path = Path(sys.executable).parent
    plugins = [f"--plugin={name}={plugin_path / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    arguments = ["protoc", f"--proto_path={ROOT / 'proto'}", *plugins, *outputs, *sources]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc has refused the contract; see its messages above")
    for package in PACKAGES:
        for stub in (target / package).glob("*_pb2_grpc.py*"):
            if not any(line.startswith("service ") for line in _proto_of(package, stub).read_text().splitlines()):
                stub.unlink()  # a file without services gets an empty module


def _proto_of(package: Path, stub: Path) -> Path:
    return ROOT / "proto" / package / (stub.name.split("_pb2")[0] + ".proto")


def names(folder: Path) -> set[str]:
    """Names of the generated files in ``folder``."""
    return {path.name for pattern in GENERATED for path in folder.glob(pattern)}


def main() -> int:
    """Returns the exit code: 1 if the check found a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if the code is stale")
    check = parser.parse_args().check
    stale: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            (Path(folder) / package).mkdir(parents=True)
        generate(Path(folder))
        for package in PACKAGES:
            if check:
                stale += difference(Path(folder) / package, ROOT / package)
            else:
                replace(Path(folder) / package, ROOT / package)
    if stale:
        print(f"stale: {', '.join(stale)}; run `make proto` and commit the result", file=sys.stderr)
    return 1 if stale else 0


def difference(fresh: Path, current: Path) -> list[str]:
    """Names of the generated files that are not in both folders, or not the same."""
    wanted = names(fresh)
    _, differ, missing = filecmp.cmpfiles(fresh, current, wanted, shallow=False)
    return sorted({*differ, *missing, *(names(current) - wanted)})


def replace(fresh: Path, current: Path) -> None:
    """Puts the generated files of one folder in the place of those of another."""
    for name in names(current):
        (current / name).unlink()
    for name in names(fresh):
        (current / name).write_bytes((fresh / name).read_bytes())


if __name__ == "__main__":
    raise SystemExit(main())
