"""Generates ``ps_protocol/v1`` from ``proto/``, or with ``--check`` says whether it is current.

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
PACKAGE = Path("ps_protocol/v1")
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(target: Path) -> None:
    """Writes the generated modules below ``target``."""
    sources = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto" / PACKAGE).glob("*.proto"))
    plugins = [f"--{plugin}_out={target}" for plugin in ("python", "mypy", "grpc_python", "mypy_grpc")]
    plugin_path = Path(sys.executable).parent
    found = [f"--plugin={name}={plugin_path / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    arguments = ["protoc", f"--proto_path={ROOT / 'proto'}", *found, *plugins, *sources]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc has refused the contract; see its messages above")
    for stub in (target / PACKAGE).glob("*_pb2_grpc.py*"):
        if not any(line.startswith("service ") for line in _proto_of(stub).read_text().splitlines()):
            stub.unlink()  # a file without services gets an empty module


def _proto_of(stub: Path) -> Path:
    return ROOT / "proto" / PACKAGE / (stub.name.split("_pb2")[0] + ".proto")


def names(folder: Path) -> set[str]:
    """Names of the generated files in ``folder``."""
    return {path.name for pattern in GENERATED for path in folder.glob(pattern)}


def main() -> int:
    """Returns the exit code: 1 if the check found a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if the code is stale")
    check = parser.parse_args().check
    current = ROOT / PACKAGE
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / PACKAGE).mkdir(parents=True)
        generate(Path(folder))
        fresh = Path(folder) / PACKAGE
        if check:
            wanted = names(fresh)
            _, differ, missing = filecmp.cmpfiles(fresh, current, wanted, shallow=False)
            stale = sorted({*differ, *missing, *(names(current) - wanted)})
            if stale:
                print(f"stale: {', '.join(stale)}; run `make proto` and commit the result", file=sys.stderr)
            return 1 if stale else 0
        for name in names(current):
            (current / name).unlink()
        for name in names(fresh):
            (current / name).write_bytes((fresh / name).read_bytes())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
