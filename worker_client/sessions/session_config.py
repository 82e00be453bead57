"""``tf.ConfigProto`` and its like: what programs tell TensorFlow about devices and threads, which has no effect here.

They hold what they are given, so that programs that set and ask for it run. Names of fields are checked as TensorFlow
checks them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Final

__all__ = ["ConfigProto", "GPUOptions", "GraphOptions", "OptimizerOptions", "RunMetadata", "RunOptions"]


class Message:
    """A record with named fields, each of which has a value from the beginning.

    Raises:
        ValueError: A field of another name is given.
        AttributeError: One is asked for or set.
    """

    FIELDS: ClassVar[Mapping[str, Any]] = {}
    """The value of each field at first; of one that holds a record, the class of that."""

    def __init__(self, **fields: Any):
        for name, value in self.FIELDS.items():
            self.__dict__[name] = value() if isinstance(value, type) else copy.copy(value)
        for name, value in fields.items():
            if name not in self.FIELDS:
                raise ValueError(
                    f"{type(self).__name__} has no field {name!r}; it has {', '.join(sorted(self.FIELDS))}"
                )
            if value is not None:
                self.__dict__[name] = value

    def __getattr__(self, name: str) -> Any:  # only of fields that there are not
        raise AttributeError(self._unknown(name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.FIELDS:
            raise AttributeError(
                f"{type(self).__name__} has no field {name!r}; it has {', '.join(sorted(self.FIELDS))}"
            )
        self.__dict__[name] = value

    def _unknown(self, name: str) -> str:
        return f"{type(self).__name__} has no field {name!r}; it has {', '.join(sorted(self.FIELDS))}"

    def CopyFrom(self, other: Message) -> None:  # noqa: N802 - TensorFlow's name
        """Takes over all fields of another record of the class."""
        self.__dict__.update(copy.deepcopy(other.__dict__))

    MergeFrom = CopyFrom

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    __hash__ = None  # type: ignore[assignment]  # its fields change

    def __repr__(self) -> str:
        changed = {
            name: value
            for name, value in self.__dict__.items()
            if value != (given() if isinstance(given := self.FIELDS[name], type) else given)
        }
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"


class Experimental(Message):
    """Fields that TensorFlow may change: whatever names they have are taken."""

    def __init__(self, **fields: Any):
        super().__init__()
        self.__dict__.update(fields)

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value

    def __repr__(self) -> str:
        return f"Experimental({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


class GPUOptions(Message):
    """How TensorFlow would use GPUs."""

    Experimental = Experimental
    FIELDS: ClassVar[Mapping[str, Any]] = {
        "per_process_gpu_memory_fraction": 0.0,
        "allow_growth": False,
        "allocator_type": "",
        "deferred_deletion_bytes": 0,
        "visible_device_list": "",
        "polling_active_delay_usecs": 0,
        "polling_inactive_delay_msecs": 0,
        "force_gpu_compatible": False,
        "experimental": Experimental,
    }


class OptimizerOptions(Message):
    """How TensorFlow would optimise graphs."""

    L1: Final = 0
    L0: Final = -1
    DEFAULT: Final = 0
    OFF: Final = -1
    ON_1: Final = 1
    ON_2: Final = 2
    FIELDS: ClassVar[Mapping[str, Any]] = {
        "do_common_subexpression_elimination": False,
        "do_constant_folding": False,
        "max_folded_constant_in_bytes": 0,
        "do_function_inlining": False,
        "opt_level": 0,
        "global_jit_level": 0,
        "cpu_global_jit": False,
    }


class GraphOptions(Message):
    """How TensorFlow would treat graphs."""

    FIELDS: ClassVar[Mapping[str, Any]] = {
        "enable_recv_scheduling": False,
        "optimizer_options": OptimizerOptions,
        "build_cost_model": 0,
        "build_cost_model_after": 0,
        "infer_shapes": False,
        "place_pruned_graph": False,
        "enable_bfloat16_sendrecv": False,
        "timeline_step": 0,
        "rewrite_options": Experimental,
    }


class ConfigProto(Message):
    """How a session of TensorFlow would use the machine; ``tf.Session(config=...)`` takes it, to no effect."""

    Experimental = Experimental
    FIELDS: ClassVar[Mapping[str, Any]] = {
        "device_count": {},
        "intra_op_parallelism_threads": 0,
        "inter_op_parallelism_threads": 0,
        "use_per_session_threads": False,
        "session_inter_op_thread_pool": [],
        "placement_period": 0,
        "device_filters": [],
        "gpu_options": GPUOptions,
        "pluggable_device_options": GPUOptions,
        "allow_soft_placement": False,
        "log_device_placement": False,
        "graph_options": GraphOptions,
        "operation_timeout_in_ms": 0,
        "rpc_options": Experimental,
        "cluster_def": Experimental,
        "isolate_session_state": False,
        "share_cluster_devices_in_session": False,
        "experimental": Experimental,
    }


class RunOptions(Message):
    """How one run of TensorFlow would be traced; ``Session.run(options=...)`` takes it, to no effect."""

    Experimental = Experimental
    NO_TRACE: Final = 0
    SOFTWARE_TRACE: Final = 1
    HARDWARE_TRACE: Final = 2
    FULL_TRACE: Final = 3
    FIELDS: ClassVar[Mapping[str, Any]] = {
        "trace_level": 0,
        "timeout_in_ms": 0,
        "inter_op_thread_pool": 0,
        "output_partition_graphs": False,
        "debug_options": Experimental,
        "report_tensor_allocations_upon_oom": False,
        "experimental": Experimental,
    }


class RunMetadata(Message):
    """What TensorFlow would tell of a run; ``Session.run(run_metadata=...)`` leaves it as it is."""

    FIELDS: ClassVar[Mapping[str, Any]] = {
        "step_stats": Experimental,
        "cost_graph": Experimental,
        "partition_graphs": [],
        "function_graphs": [],
        "session_metadata": Experimental,
    }
