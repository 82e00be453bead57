"""TensorFlow 1's names that are left out, each with the reason and what to use instead: the one table of them.

A module of these names has a ``__getattr__`` from here, so that asking it for such a name says both. The table in
``docs/tf1-names.md`` repeats the reasons; a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, Final, NoReturn

GRADIENTS: Final = (
    "of automatic differentiation there is `tf.gradients`, in graphs; derivatives of your own are computed in Python, "
    "fed, and applied with `assign_sub` or `scatter_sub`"
)
OPTIMIZERS: Final = (
    "workers train asynchronously, with those optimizers of TensorFlow's that change a variable by a rule, as "
    "`tf.train.AdamOptimizer`; anything else is computed in the graph and applied with `assign`"
)
SAVING: Final = (
    "a session saves nothing; ps tasks keep their state with `--durability journal`, and values that `session.run` "
    "returned can be saved with NumPy and loaded with `Variable.load`"
)
LOOPS: Final = (
    "write the loop in Python around `session.run`; on all workers but the chief it waits until variables have values"
)
SERVER: Final = (
    "a ps task is a process of its own, `shardscope ps`; workers connect with `worker_client.connect()`, and "
    "`tf.Session(client)` runs on that connection"
)
RESOLVER: Final = "`worker_client.connect()` reads `TF_CONFIG` itself; `worker_client.TfConfig` holds what is in it"
CONTROL_FLOW: Final = (
    "no control flow in graphs; decide in Python, between two runs, or compute both and choose with `tf.where`"
)
INPUT: Final = "no input pipelines or queues; read and batch in Python, and feed placeholders"
ACCUMULATORS: Final = "add to a variable with `assign_add` on each worker, which counts every update once"
LAYERS: Final = (
    "not among the layers and operations here; make variables with `tf.get_variable`, and compute with `tf.layers`, "
    "`tf.matmul` and what is in `tf.nn`"
)
ESTIMATORS: Final = "no estimators; write the loop in Python around `session.run`"
SUMMARIES: Final = "no summaries; run the tensor, and hand its value to a writer of your own"
METRICS: Final = "not among the metrics here; take `tf.metrics.mean` of what it is made of, or count in Python"
TABLES: Final = "no lookup tables; map keys to rows in Python, then use `tf.nn.embedding_lookup`"
SPARSE: Final = (
    "sparse tensors are for `tf.nn.embedding_lookup_sparse` alone; put elements together with `tf.scatter_nd` or "
    "`tf.unsorted_segment_sum`"
)
TEXT: Final = "no operations on texts; do it in Python, and feed the result"
FILES: Final = "no operations on files or records; read them in Python or with `tf.gfile`, and feed the result"
SIGNALS: Final = "no operations on images, sound or signals; compute them with NumPy, and feed the result"
SPECIAL: Final = "NumPy has no such function; compute it with SciPy, and feed the result"
PROTOBUF: Final = "no protocol buffers of graphs here; a graph is built by running its code"
PYTHON: Final = "compute in Python between two runs, or with `tf.numpy_function`"
EAGER: Final = (
    "a graph is deferred or not as a whole: the one of `with worker_client.connect()` acts at once, that of "
    "`tf.Graph()` when a session runs it"
)
VERSION_2: Final = "these names behave as TensorFlow 1's; TensorFlow 2's behaviour cannot be switched on"
HARDWARE: Final = "devices only place variables; what is computed is computed by NumPy in the session's process"
QUANTIZED: Final = "no quantized numbers; `worker_client.WireFormat` says in which form values travel"
HANDLES: Final = "no values stay in a session; run the tensor, and feed its value in the next run"
SHAPED: Final = "no such operation; `tf.reshape`, `tf.transpose` and `tf.gather` do what it does"
SAMPLING: Final = "no sampler here that learns; use `tf.nn.fixed_unigram_candidate_sampler` with the counts of classes"
INTERNAL: Final = "a matter of TensorFlow's own"
EXTENSIONS: Final = "no operations from libraries; compute in Python, or with `tf.numpy_function`"
RAGGED: Final = "no ragged tensors; give rows one length with `tf.pad`, or feed values and their segments"
LINEAR: Final = "not among the functions of matrices here; compute it with `numpy.linalg`, and feed the result"
STATELESS: Final = "use `tf.random_normal` and its like with `seed`, or draw with NumPy and feed the result"
CONTRIB: Final = "of `tf.contrib` only regularizers and placement strategies are here"
ABSEIL: Final = "a part of Abseil's `flags` is here; define this option with `DEFINE_string`, or use `argparse`"

_GROUPS: Final[tuple[tuple[str, str], ...]] = (
    (
        GRADIENTS,
        "hessians GradientTape recompute_grad grad_pass_through no_gradient NoGradient "
        "NotDifferentiable RegisterGradient "
        "nondifferentiable_batch_function",
    ),
    (OPTIMIZERS, "train.*Optimizer train.ExponentialMovingAverage train.sdca_*"),
    (
        SAVING,
        "train.Saver train.SaverDef train.latest_checkpoint train.get_checkpoint_state train.checkpoint_exists "
        "train.list_variables train.load_variable train.load_checkpoint train.init_from_checkpoint "
        "train.Checkpoint* train.NewCheckpointReader train.checkpoints_iterator "
        "train.generate_checkpoint_state_proto train.get_checkpoint_mtimes train.remove_checkpoint "
        "train.update_checkpoint_state train.warm_start train.VocabInfo train.export_meta_graph "
        "train.import_meta_graph train.write_graph saved_model",
    ),
    (
        LOOPS,
        "train.MonitoredTrainingSession train.MonitoredSession train.SingularMonitoredSession train.Supervisor "
        "train.Coordinator train.LooperThread train.Scaffold train.SessionManager train.SessionCreator "
        "train.ChiefSessionCreator train.WorkerSessionCreator train.SessionRun* train.*Hook "
        "train.SecondOrStepTimer train.NanLossDuringTrainingError train.basic_train_loop",
    ),
    (SERVER, "train.Server train.ServerDef train.ClusterDef train.JobDef"),
    (RESOLVER, "distribute"),
    (
        CONTROL_FLOW,
        "cond case while_loop switch_case map_fn scan foldl foldr vectorized_map TensorArray TensorArraySpec "
        "CriticalSection enable_control_flow_v2 control_flow_v2_enabled autograph",
    ),
    (
        INPUT,
        "data queue FIFOQueue PaddingFIFOQueue PriorityQueue RandomShuffleQueue QueueBase train.QueueRunner "
        "train.add_queue_runner train.queue_runner train.start_queue_runners train.batch train.batch_join "
        "train.maybe_batch train.maybe_batch_join train.shuffle_batch train.shuffle_batch_join "
        "train.maybe_shuffle_batch train.maybe_shuffle_batch_join train.input_producer train.range_input_producer "
        "train.slice_input_producer train.string_input_producer train.limit_epochs train.match_filenames_once",
    ),
    (ACCUMULATORS, "ConditionalAccumulator ConditionalAccumulatorBase SparseConditionalAccumulator"),
    (
        LAYERS,
        "layers.* keras Module conv conv2d_backprop_* depth_to_space space_to_depth nn.*conv* nn.*pool* nn.*rnn* "
        "nn.*ctc* nn.*dilation* nn.erosion2d "
        "nn.depth_to_space nn.space_to_depth "
        "nn.space_to_batch nn.with_space_to_batch nn.collapse_repeated nn.compute_average_loss "
        "nn.scale_regularization_loss nn.experimental nn.safe_embedding_lookup_sparse",
    ),
    (ESTIMATORS, "estimator feature_column FixedLenFeature FixedLenSequenceFeature SparseFeature VarLenFeature"),
    (
        SUMMARIES,
        "summary Summary SummaryMetadata *_summary merge_all_summaries merge_summary HistogramProto Event "
        "LogMessage SessionLog train.summary_iterator",
    ),
    (METRICS, "metrics.*"),
    (TABLES, "lookup"),
    (SPARSE, "sparse sparse_* SparseTensorSpec deserialize_many_sparse serialize_*sparse"),
    (
        TEXT,
        "strings string_* as_string dtypes.as_string substr regex_replace reduce_join edit_distance encode_base64 "
        "decode_base64 fingerprint",
    ),
    (
        FILES,
        "io python_io *Reader ReaderBase parse_* decode_* read_file write_file matching_files serialize_tensor "
        "train.BytesList train.Example train.Feature train.FeatureList train.FeatureLists train.Features "
        "train.FloatList train.Int64List train.SequenceExample",
    ),
    (SIGNALS, "image audio signal spectral *fft *fft2d *fft3d *fftnd extract_image_patches extract_volume_patches"),
    (
        SPECIAL,
        "digamma igamma igammac lbeta betainc polygamma zeta math.bessel_* math.digamma math.igamma math.igammac "
        "math.lbeta math.betainc math.polygamma math.zeta math.erfinv math.erfcinv math.ndtri math.nextafter "
        "math.special math.sobol_sample math.cumulative_logsumexp math.xlog1py math.reciprocal_no_nan "
        "math.polyval",
    ),
    (
        PROTOBUF,
        "GraphDef MetaGraphDef NodeDef AttrValue NameAttrList TensorInfo import_graph_def graph_util GRAPH_DEF_* "
        "make_ndarray make_tensor_proto Graph.as_graph_def Graph.graph_def_versions Graph.op_def_for_type "
        "Session.graph_def Variable.from_proto Variable.to_proto",
    ),
    (
        PYTHON,
        "bincount math.bincount histogram_fixed_width histogram_fixed_width_bins searchsorted unravel_index "
        "bitcast timestamp bitwise sets manip nest math.approx_max_k math.approx_min_k nn.approx_max_k "
        "nn.approx_min_k approx_top_k py_function",
    ),
    (EAGER, "enable_eager_execution function init_scope wrap_function executing_eagerly_outside_functions"),
    (
        VERSION_2,
        "enable_v2_behavior enable_v2_tensorshape enable_tensor_equality compat mixed_precision experimental "
        "*.experimental",
    ),
    (HARDWARE, "tpu xla lite profiler test config sysconfig mlir"),
    (
        QUANTIZED,
        "quantiz* dequantize fake_quant_* qint* quint* QUANTIZED_DTYPES dtypes.q* dtypes.QUANTIZED_DTYPES "
        "nn.quantized_* train.do_quantize_*",
    ),
    (HANDLES, "get_session_handle get_session_tensor delete_session_tensor"),
    (SHAPED, "batch_to_space* space_to_batch* required_space_to_batch_paddings parallel_stack shape_n strided_slice"),
    (
        SAMPLING,
        "nn.learned_unigram_candidate_sampler random.learned_unigram_candidate_sampler",
    ),
    (
        INTERNAL,
        "errors.raise_exception_on_not_ok_status raw_ops resource_loader types user_ops version "
        "type_spec_from_value is_symbolic_tensor check_pinned guarantee_const *Spec CXX* MONOLITHIC_BUILD "
        "GIT_VERSION COMPILER_VERSION resource variant dtypes.resource dtypes.variant add_check_numerics_ops "
        "convert_to_tensor_or_* debugging.*",
    ),
    (EXTENSIONS, "load_op_library load_library load_file_system_library register_tensor_conversion_function"),
    (RAGGED, "ragged ragged_* RaggedTensor RaggedTensorSpec"),
    (
        LINEAR,
        "matrix_solve_ls matrix_square_root matrix_triangular_solve cholesky_solve qr svd self_adjoint_eig* linalg.*",
    ),
    (STATELESS, "random.* random_index_shuffle distributions"),
    (CONTRIB, "contrib.* contrib.*.*"),
    (ABSEIL, "flags.*"),
)

RENAMED: Final[dict[str, str]] = {
    "arg_max": "argmax",
    "arg_min": "argmin",
    "batch_matmul": "matmul",
    "batch_scatter_update": "Variable.batch_scatter_update",
    "complex_abs": "abs",
    "concat_v2": "concat",
    "inv": "reciprocal",
    "mul": "multiply",
    "neg": "negative",
    "op_scope": "name_scope",
    "pack": "stack",
    "select": "where",
    "sub": "subtract",
    "unpack": "unstack",
}
"""Names that TensorFlow itself has given up, and those that took their place."""


def rows() -> Iterator[tuple[str, str]]:
    """Yields each name that is left out, or pattern of names, as "train.Saver", with the reason."""
    for reason, names in _GROUPS:
        for name in names.split():
            yield name, reason


def reason_for(path: str) -> str | None:
    """Returns why a name is left out and what to use instead, None if it is no name of TensorFlow's that is known."""
    if path in RENAMED:
        return f"TensorFlow's newer name of it is `{RENAMED[path]}`"
    exact = dict(rows())
    if path in exact:
        return exact[path]
    return next((reason for pattern, reason in rows() if fnmatchcase(path, pattern) and _is_near(path, pattern)), None)


def _is_near(path: str, pattern: str) -> bool:
    """Whether a pattern is for names of the same module as a path, since "*" would match a dot as well."""
    return path.count(".") == pattern.count(".")


def getattr_of(module: str) -> Callable[[str], Any]:
    """Returns the ``__getattr__`` of a module of names, "" for the one at the top, or as "train"."""
    where = f"tf.{module}" if module else "tf"

    def missing(name: str) -> NoReturn:
        path = f"{module}.{name}" if module else name
        reason = None if name.startswith("__") else reason_for(path)
        if reason is None:
            raise AttributeError(f"{where} has no attribute {name!r}", name=name)
        raise AttributeError(
            f"tf.{path} is left out of Shardscope: {reason.replace('`', '')} (docs/tf1-names.md)", name=name
        )

    return missing
