"""TensorFlow 1's names that are left out, each with the reason and what to use instead: the one table of them.

A module of these names has a ``__getattr__`` from here, and a class whose members are among them derives from
``SaysWhatIsLeftOut``, so that asking for such a name says both. The tables in ``docs/tf1-names.md`` repeat the reasons,
written there by ``tools/update_names_page.py``; tests compare them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Final, NoReturn

GRADIENTS: Final = (
    "of automatic differentiation there is `tf.gradients`, in graphs; derivatives of your own are computed in Python, "
    "fed, and applied with `assign_sub` or `scatter_sub`"
)
OPTIMIZERS: Final = (
    "of TensorFlow's optimizers there are those that change a variable by a rule, as `tf.train.AdamOptimizer`, and "
    "`tf.train.SyncReplicasOptimizer`; anything else is computed in the graph and applied with `assign`"
)
SAVED_GRAPHS: Final = (
    "no graphs are saved or loaded; run the code that builds it, and have `tf.train.Saver` restore the variables, also "
    "those of a SavedModel"
)
SAVED_OBJECTS: Final = (
    "TensorFlow 2's way to save objects; `tf.train.Saver` saves variables, and restores from such files by their names"
)
VOCABULARIES: Final = (
    "no vocabularies are read here; put the rows into their new order in Python, and load them with `Variable.load`"
)
CLUSTERS: Final = "no protocol buffers of clusters here; give `tf.train.ClusterSpec` a mapping of jobs to addresses"
RESOLVER: Final = "`worker_client.connect()` reads `TF_CONFIG` itself; `worker_client.TfConfig` holds what is in it"
CONTROL_FLOW: Final = (
    "no control flow in graphs; decide in Python, between two runs, or compute both and choose with `tf.where`"
)
INPUT: Final = "no input pipelines, and no queues but `tf.FIFOQueue`; read and batch in Python, and feed placeholders"
LAYERS: Final = (
    "not among the layers and operations here; make variables with `tf.get_variable`, and compute with `tf.layers`, "
    "`tf.matmul` and what is in `tf.nn`"
)
ESTIMATORS: Final = "no estimators; write the loop in Python around `session.run`"
SUMMARIES: Final = (
    "only `scalar`, `histogram`, `image`, `text` and their merging are here; run the tensor, and write its value with "
    "`FileWriter.add_summary`"
)
OLD_SUMMARIES: Final = "TensorFlow 1.0 has given it up; use `tf.summary.scalar` and its like"
EVENTS: Final = "no event files are read here; TensorBoard's `EventAccumulator` reads them"
PROFILES: Final = "nothing is traced here; measure with Python's profilers, such as `cProfile`"
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
CONTRIB: Final = (
    "of `tf.contrib` only regularizers and placement strategies are here; most of what programs take from it has its "
    "like in `tf.layers`, `tf.nn`, `tf.losses` and `tf.train`"
)
FEEDABLE: Final = "every tensor can be fed, and everything be fetched"
LISTED: Final = "TensorFlow's own; `get_operations()` lists all operations of a graph"
FUNCTIONS: Final = "there are no functions as graphs; build with Python's functions"
LOOKED_UP: Final = "`get_tensor_by_name` and `get_operation_by_name` find it; sessions take names themselves"
OWN: Final = "TensorFlow's own, for its tests and debugging; nothing takes its place"
IN_PARTS: Final = "run the parts as runs of their own, and feed what one returned to the next"
CONTAINERS: Final = "there are no containers to clear; initialise variables again instead"
EXTREMES: Final = "elements have no minimum and maximum of updates; `scatter_min` and `scatter_max` do that for rows"
NO_VALUE: Final = "a deferred tensor has no value before it is run; use `session.run` or `eval()`"
ASSIGNED: Final = "only variables, slices of them and what their updates return can be assigned; see `tf.assign`"

_GROUPS: Final[tuple[tuple[str, str], ...]] = (
    (
        GRADIENTS,
        "hessians GradientTape recompute_grad grad_pass_through no_gradient NoGradient "
        "NotDifferentiable RegisterGradient "
        "nondifferentiable_batch_function Graph.gradient_override_map",
    ),
    (OPTIMIZERS, "train.*Optimizer train.sdca_*"),
    (
        SAVED_GRAPHS,
        "train.export_meta_graph train.import_meta_graph train.write_graph saved_model Saver.export_meta_graph",
    ),
    (SAVED_OBJECTS, "train.Checkpoint train.CheckpointManager train.CheckpointOptions train.CheckpointView"),
    (VOCABULARIES, "train.VocabInfo"),
    (CLUSTERS, "train.ClusterDef train.JobDef"),
    (RESOLVER, "distribute"),
    (
        CONTROL_FLOW,
        "cond case while_loop switch_case map_fn scan foldl foldr vectorized_map TensorArray TensorArraySpec "
        "CriticalSection enable_control_flow_v2 control_flow_v2_enabled autograph",
    ),
    (
        INPUT,
        "data queue PaddingFIFOQueue PriorityQueue RandomShuffleQueue "
        "train.queue_runner train.batch train.batch_join "
        "train.maybe_batch train.maybe_batch_join train.shuffle_batch train.shuffle_batch_join "
        "train.maybe_shuffle_batch train.maybe_shuffle_batch_join train.input_producer train.range_input_producer "
        "train.slice_input_producer train.string_input_producer train.limit_epochs train.match_filenames_once",
    ),
    (
        LAYERS,
        "layers.* keras Module conv conv2d_backprop_* depth_to_space space_to_depth nn.*conv* nn.*pool* nn.*rnn* "
        "nn.*ctc* nn.*dilation* nn.erosion2d "
        "nn.depth_to_space nn.space_to_depth "
        "nn.space_to_batch nn.with_space_to_batch nn.collapse_repeated nn.compute_average_loss "
        "nn.scale_regularization_loss nn.experimental nn.safe_embedding_lookup_sparse",
    ),
    (ESTIMATORS, "estimator feature_column FixedLenFeature FixedLenSequenceFeature SparseFeature VarLenFeature"),
    (SUMMARIES, "summary.audio summary.tensor_summary summary.initialize summary.all_v2_summary_ops"),
    (OLD_SUMMARIES, "*_summary merge_all_summaries merge_summary train.SummaryWriter train.SummaryWriterCache"),
    (EVENTS, "train.summary_iterator summary.get_summary_description"),
    (PROFILES, "train.ProfilerHook"),
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
        "igamma igammac lbeta betainc polygamma zeta math.bessel_* math.igamma math.igammac "
        "math.lbeta math.betainc math.polygamma math.zeta math.erfinv math.erfcinv math.ndtri math.nextafter "
        "math.special math.sobol_sample math.cumulative_logsumexp math.xlog1py math.reciprocal_no_nan "
        "math.polyval",
    ),
    (
        PROTOBUF,
        "GraphDef MetaGraphDef NodeDef AttrValue NameAttrList TensorInfo import_graph_def graph_util GRAPH_DEF_* "
        "make_ndarray make_tensor_proto Graph.as_graph_def Graph.graph_def_versions Graph.op_def_for_type "
        "Session.graph_def Variable.from_proto Variable.to_proto Operation.op_def "
        "Operation.from_node_def Operation.experimental_set_type",
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
    (HARDWARE, "Session.list_devices tpu xla lite profiler test config sysconfig mlir"),
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
    (FEEDABLE, "Graph.is_feedable Graph.is_fetchable Graph.prevent_feeding Graph.prevent_fetching"),
    (LISTED, "Graph.new_operations Graph.num_operations Graph.operations Graph.version"),
    (FUNCTIONS, "Graph.building_function Graph.get"),
    (LOOKED_UP, "Graph.as_graph_element"),
    (OWN, "Graph.Dismantle Session.sess_str Operation.traceback"),
    (IN_PARTS, "Session.partial_run Session.partial_run_setup"),
    (CONTAINERS, "Session.reset"),
    (EXTREMES, "Variable.scatter_nd_max Variable.scatter_nd_min"),
    (NO_VALUE, "Tensor.numpy Variable.numpy"),
    (ASSIGNED, "Tensor.assign Tensor.assign_add Tensor.assign_sub"),
    (CONTRIB, "contrib.* contrib.*.*"),
)

RENAMED: Final[dict[str, str]] = {
    "batch_matmul": "matmul",
    "batch_scatter_update": "Variable.batch_scatter_update",
    "complex_abs": "abs",
    "concat_v2": "concat",
    "contrib.layers.flatten": "layers.flatten",
    "contrib.layers.xavier_initializer": "glorot_uniform_initializer",
    "contrib.layers.xavier_initializer_conv2d": "glorot_uniform_initializer",
    "inv": "reciprocal",
    "mul": "multiply",
    "neg": "negative",
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
        raise _missing(f"{module}.{name}" if module else name, "tf.", f"{where} has no attribute {name!r}")

    return missing


def getattr_of_member(owner: object, name: str, public_name: str) -> NoReturn:
    """Raises what a class, or an instance of one, of this name in TensorFlow raises for a member that it lacks."""
    kind = owner if isinstance(owner, type) else type(owner)
    raise _missing(f"{public_name}.{name}", "", f"{kind.__name__!r} object has no attribute {name!r}")


class SaysWhatIsLeftOut:
    """Base of a class of TensorFlow's: asked for a member that is left out, it says why and what to use instead.

    Attributes:
        public_name: What the class is called in TensorFlow, as "Graph".
    """

    __slots__ = ()
    public_name: ClassVar[str]


def _member(self: SaysWhatIsLeftOut, name: str) -> NoReturn:
    getattr_of_member(self, name, self.public_name)


# Not in the class, where type checkers would take every name for a member of it.
SaysWhatIsLeftOut.__getattr__ = _member  # type: ignore[attr-defined]


def _missing(path: str, prefix: str, otherwise: str) -> AttributeError:
    name = path.rpartition(".")[2]
    reason = None if name.startswith("_") else reason_for(path)
    if reason is None or (path not in RENAMED and path not in dict(rows())):
        # Without a name Python adds its own, and with that the nearest one that there is: this may be a slip.
        text = otherwise if reason is None else _why(path, prefix, reason)
        return AttributeError(text)
    return AttributeError(_why(path, prefix, reason), name=name)


def _why(path: str, prefix: str, reason: str) -> str:
    return f"{prefix}{path} is left out of Shardscope: {reason.replace('`', '')} (docs/tf1-names.md)"
