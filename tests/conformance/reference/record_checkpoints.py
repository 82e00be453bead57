"""Records checkpoints that TensorFlow writes, and what it reads from them (needs tensorflow and tf_keras).

    TF_USE_LEGACY_KERAS=1 python record_checkpoints.py traces/checkpoints.tar.xz
    python record_checkpoints.py --read PREFIX     # prints what TensorFlow reads from one
    python record_checkpoints.py --restore PREFIX  # prints what a saver gives to variables, those of a matrix in parts

In the archive each folder has the files of a checkpoint and ``expected.json``: the path to open, and of each name the
dtype, the shape, and the elements as bytes (in hexadecimal), of strings each element.
"""

from __future__ import annotations

import json
import lzma
import os
import sys
import tarfile
import tempfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1

# Values are computed, not drawn, so that the archive stays small.


def ramp(*shape: int, dtype: str = "float32") -> np.ndarray:
    """The numbers 0, 1, 2... as an array."""
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)


def part_of(whole: np.ndarray) -> object:
    """An initializer that gives each part of a partitioned variable its elements of an array."""

    def initial(shape: object, dtype: object = None, partition_info: object = None) -> object:
        return tf.slice(tf.constant(whole.astype("float32")), partition_info.var_offset, shape)

    return initial


def graph_model(folder: Path, version: int, sharded: bool = False, name: str = "model.ckpt") -> str:
    """Trains some steps with Adam, with partitioned variables, and saves."""
    with tf.Graph().as_default():
        step = tf1.train.get_or_create_global_step()
        with tf.device("/cpu:1" if sharded else None), tf1.variable_scope("layer"):
            weights = tf1.get_variable("weights", initializer=ramp(4, 3) / 8)
            tf1.get_variable("bias", initializer=tf.zeros([3]))
        with tf1.variable_scope("embedding", partitioner=tf1.fixed_size_partitioner(3)):
            rows = tf1.get_variable("rows", [10, 4], initializer=part_of(ramp(10, 4) / 4))
        with tf1.variable_scope("wide", partitioner=tf1.fixed_size_partitioner(2, axis=1)):
            wide = tf1.get_variable("columns", [3, 7], initializer=part_of(ramp(3, 7) / 2))
        one = tf1.get_variable(
            "alone", [2, 2], initializer=tf1.ones_initializer(), partitioner=tf1.fixed_size_partitioner(1)
        )
        loss = sum(tf.reduce_sum(tf.square(tf.convert_to_tensor(each))) for each in (weights, rows, wide, one))
        train = tf1.train.AdamOptimizer(0.1).minimize(loss, step)
        saver = tf1.train.Saver(write_version=version, sharded=sharded)
        with tf1.Session(config=tf1.ConfigProto(device_count={"CPU": 2})) as session:
            session.run(tf1.global_variables_initializer())
            for _ in range(3):
                session.run(train)
            return saver.save(session, str(folder / name), global_step=step, write_meta_graph=False)


def some_parts(folder: Path, version: int) -> str:
    """Saves one part of a variable in three, and another variable."""
    with tf.Graph().as_default():
        with tf1.variable_scope("net", partitioner=tf1.fixed_size_partitioner(3)):
            _, part, _ = tf1.get_variable("v", [7, 2], initializer=part_of(ramp(7, 2)))
        alone = tf1.get_variable("w", initializer=[5.0, 6.0])
        saver = tf1.train.Saver([part, alone], write_version=version)
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            return saver.save(session, str(folder / "model.ckpt"), write_meta_graph=False)


def save(folder: Path, tensors: dict[str, object], slices: dict[str, str] | None = None) -> str:
    """Saves tensors by the operation that savers run."""
    prefix = str(folder / "tensors")
    names = list(tensors)
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=names,
        shape_and_slices=[(slices or {}).get(name, "") for name in names],
        tensors=[tensors[name] for name in names],
    )
    return prefix


def dtypes() -> dict[str, object]:
    """A tensor of each dtype that can be saved, with elements at the edges."""
    found: dict[str, object] = {}
    values = tf.constant([0.0, -0.0, 1.0, -2.5, np.inf, np.nan, 0.3], tf.float32)
    for name in ("float16", "bfloat16", "float32", "float64", "float8_e5m2", "float8_e4m3fn"):
        found[name] = tf.cast(values, getattr(tf.dtypes.experimental, name, None) or name)
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        limits = np.iinfo(name)
        found[name] = tf.constant([[limits.min, limits.max], [0, 1]], name)
    for name in ("int4", "uint4"):
        found[name] = tf.cast(tf.constant([1, 2, 7], tf.int8), name)
    for name, same in (("qint8", "int8"), ("quint8", "uint8"), ("qint16", "int16"), ("quint16", "uint16")):
        found[name] = tf.bitcast(tf.constant([1, 100], same), name)
    found["qint32"] = tf.bitcast(tf.constant([-5, 7], "int32"), "qint32")
    found["bool"] = tf.constant([True, False, True])
    found["complex64"] = tf.constant([1 + 2j, -0.5j], tf.complex64)
    found["complex128"] = tf.constant([[1 + 2j, -0.5j]], tf.complex128)
    found["scalar"] = tf.constant(3.5)
    found["scalar_text"] = tf.constant(b"text\0with\0zeros\0")
    found["empty"] = tf.zeros([0, 3], tf.int16)
    found["empty_text"] = tf.zeros([2, 0], tf.string)
    found["text"] = tf.constant([[b"", b"a\0"], [bytes(range(256)) * 2, "ä€".encode()]])
    found["many_texts"] = tf.constant([b"x" * (number % 5) for number in range(300)])
    return found


NOT_IN_VERSION_1 = (
    *("bfloat16", "float8_e5m2", "float8_e4m3fn", "uint32", "uint64", "int4", "uint4", "qint16", "quint16"),
)


def version_1_dtypes(folder: Path) -> str:
    """The same of version 1, of which TensorFlow's reader takes fewer dtypes than it writes."""
    tensors = {name: value for name, value in dtypes().items() if name not in NOT_IN_VERSION_1}
    path = str(folder / "tensors")
    tf.raw_ops.Save(filename=path, tensor_names=list(tensors), data=list(tensors.values()))
    return path


def tensor_lists() -> dict[str, object]:
    """A tensor that only TensorFlow can read, and one beside it."""
    listed = tf.raw_ops.EmptyTensorList(element_shape=[2], max_num_elements=3, element_dtype=tf.float32)
    return {"list": listed, "beside": tf.constant([1.0, 2.0])}


def sliced(folder: Path) -> str:
    """A tensor in four parts that are cut along both axes, and one of strings."""
    whole = tf.constant(ramp(5, 6, dtype="int32"))
    words = tf.constant([b"one", b"two", b"three", b""])
    parts = {
        "grid:0": ("5 6 0,2:0,4", whole[:2, :4]),
        "grid:1": ("5 6 2,3:0,4", whole[2:, :4]),
        "grid:2": ("5 6 0,2:4,2", whole[:2, 4:]),
        "grid:3": ("5 6 2,3:4,2", whole[2:, 4:]),
        "words:0": ("4 0,3", words[:3]),
        "words:1": ("4 3,1", words[3:]),
        "far:0": ("1000003 0,1000000", tf.zeros([1000000], tf.uint8)),
        "far:1": ("1000003 1000000,3", tf.constant([7, 8, 9], tf.uint8)),
    }
    prefix = str(folder / "tensors")
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=[name.partition(":")[0] for name in parts],
        shape_and_slices=[spec for spec, _ in parts.values()],
        tensors=[value for _, value in parts.values()],
    )
    return prefix


def many_names() -> dict[str, object]:
    """So many names that the index has several blocks, sharing more and less with each other."""
    one = tf.constant(1.0)
    names = [f"tower_{number % 7}/layer_{number:05d}/{'deep/' * (number % 5)}weights" for number in range(7000)]
    names += [f"{'x' * length}" for length in range(1, 300)]
    names += ["a", "a/b", "a/b/c", "a.b", "ab", "é", "日本", "z" * 5000]
    return dict.fromkeys(names, one)


class Layer(tf.Module):
    """A layer with two variables."""

    def __init__(self, name: str):
        super().__init__(name=name)
        with self.name_scope:
            self.kernel = tf.Variable(ramp(3, 2), name="kernel")
            self.bias = tf.Variable(tf.zeros([2]), name="bias")

    @tf.function(input_signature=[tf.TensorSpec([None, 3])])
    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        """The layer's outputs."""
        return inputs @ self.kernel + self.bias


def objects(folder: Path) -> str:
    """Trains two layers with Adam, and saves the objects with a manager."""
    layers = [Layer("first"), Layer("second")]
    optimizer = tf.keras.optimizers.legacy.Adam(0.1)
    step = tf.Variable(0, dtype=tf.int64, name="step")
    variables = [each for layer in layers for each in layer.trainable_variables]
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = sum(tf.reduce_sum(tf.square(each - 1)) for each in variables)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        step.assign_add(1)
    checkpoint = tf.train.Checkpoint(layers=layers, optimizer=optimizer, step=step)
    manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=2)
    manager.save()
    return manager.save()


def objects_in_shards(folder: Path) -> str:
    """Saves objects so that no file is large: variables in parts, in many files. Two variables have one name."""
    policy = tf.train.experimental.MaxShardSizePolicy(max_shard_size=300)
    options = tf.train.CheckpointOptions(experimental_sharding_callback=policy)
    same = [tf.Variable(ramp(3, 50, dtype="int32"), name="same"), tf.Variable([b"a", b"b"], name="same")]
    checkpoint = tf.train.Checkpoint(
        big=tf.Variable(ramp(40, 7), name="big"), same=same, deep={"cube": tf.Variable(ramp(5, 6, 3), name="cube")}
    )
    return checkpoint.write(str(folder / "objects"), options)


def saved_model(folder: Path) -> str:
    """A SavedModel, of which only the variables are kept."""
    tf.saved_model.save(Layer("layer"), str(folder / "model"))
    for each in list((folder / "model").rglob("*")):
        if each.is_file() and each.parent.name != "variables":
            each.unlink()
    return str(folder / "model" / "variables" / "variables")


def expected(prefix: str) -> dict[str, object]:
    """What TensorFlow reads."""
    reader = tf1.train.NewCheckpointReader(prefix)
    shapes = reader.get_variable_to_shape_map()
    tensors = {}
    for name, dtype in sorted(reader.get_variable_to_dtype_map().items()):
        shape = shapes[name]
        try:
            value = reader.get_tensor(name)
        except Exception:  # variants; of version 1 some dtypes, and as of strings what is in parts
            tensors[name] = {"dtype": dtype.name, "shape": shape}
            continue
        array = np.asarray(value, dtype=object if dtype == tf.string else None)
        strings = [each.hex() for each in array.ravel()] if dtype == tf.string else None
        data = array.tobytes().hex() if len(array.tobytes()) < 10_000 else {"last": array.tobytes()[-16:].hex()}
        tensors[name] = {"dtype": dtype.name, "shape": shape, "data": data if strings is None else strings}
    return tensors


def restored(prefix: str) -> dict[str, object]:
    """What variables have that a saver has restored; matrices are in two parts."""
    reader = tf1.train.load_checkpoint(prefix)
    with tf.Graph().as_default():
        variables = {}
        for name, shape in sorted(reader.get_variable_to_shape_map().items()):
            parts = tf1.fixed_size_partitioner(2) if len(shape) == 2 and shape[0] > 1 else None
            dtype = reader.get_variable_to_dtype_map()[name]
            variables[name] = tf1.get_variable(name, shape, dtype, tf1.zeros_initializer(), partitioner=parts)
        saver = tf1.train.Saver(variables)
        with tf1.Session() as session:
            saver.restore(session, prefix)
            found = session.run({name: tf.convert_to_tensor(each) for name, each in variables.items()})
    return {
        name: {"dtype": array.dtype.name, "shape": list(array.shape), "data": array.tobytes().hex()}
        for name, array in found.items()
    }


def main(path: str) -> None:
    """Writes the archive."""
    v1, v2 = tf1.train.SaverDef.V1, tf1.train.SaverDef.V2
    cases = {
        "adam": lambda folder: graph_model(folder, v2),
        "sharded": lambda folder: graph_model(folder, v2, sharded=True),
        "version_1": lambda folder: graph_model(folder, v1),
        "version_1_sharded": lambda folder: graph_model(folder, v1, sharded=True),
        "dtypes": lambda folder: save(folder, dtypes()),
        "version_1_dtypes": version_1_dtypes,
        "sliced": sliced,
        "many_names": lambda folder: save(folder, many_names()),
        "tensor_lists": lambda folder: save(folder, tensor_lists()),
        "some_parts": lambda folder: some_parts(folder, v2),
        "version_1_some_parts": lambda folder: some_parts(folder, v1),
        "objects_in_shards": objects_in_shards,
        "objects": objects,
        "saved_model": saved_model,
    }
    with lzma.open(path, "wb", preset=9) as compressed, tempfile.TemporaryDirectory() as root:
        for name, make in cases.items():
            os.chdir(root)  # so that the files "checkpoint" have relative paths
            folder = Path(name)
            folder.mkdir()
            prefix = make(folder)
            answer = {"open": str(Path(prefix).relative_to(folder)), "tensors": expected(prefix)}
            (folder / "expected.json").write_text(json.dumps(answer), encoding="utf-8")
        os.chdir("/")
        with tarfile.open(fileobj=compressed, mode="w") as archive:
            for each in sorted(Path(root).rglob("*")):
                if each.is_file():
                    member = archive.gettarinfo(str(each), str(each.relative_to(root)))
                    member.uid = member.gid = member.mtime = 0
                    member.uname = member.gname = ""
                    with each.open("rb") as file:
                        archive.addfile(member, file)


if __name__ == "__main__":
    if sys.argv[1] == "--read":
        print(json.dumps(expected(sys.argv[2])))
    elif sys.argv[1] == "--restore":
        print(json.dumps(restored(sys.argv[2])))
    else:
        main(sys.argv[1])
