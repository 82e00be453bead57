"""``tf.train``: clusters, training loops, optimizers, and what of it concerns variables and learning rates."""

from worker_client.checkpoints.state import (
    checkpoint_exists,
    generate_checkpoint_state_proto,
    get_checkpoint_mtimes,
    get_checkpoint_state,
    latest_checkpoint,
    remove_checkpoint,
    update_checkpoint_state,
)
from worker_client.checkpoints.tensorflow import NewCheckpointReader, list_variables, load_checkpoint, load_variable
from worker_client.compat.v1.cluster import ClusterSpec
from worker_client.placement.device_setter import replica_device_setter
from worker_client.training import learning_rate as _learning_rate
from worker_client.training.global_step import (
    assert_global_step,
    create_global_step,
    get_global_step,
    get_or_create_global_step,
    global_step,
)
from worker_client.training.learning_rate import *
from worker_client.training.monitored.checkpoint_hook import CheckpointSaverHook, CheckpointSaverListener
from worker_client.training.monitored.coordinator import Coordinator, LooperThread
from worker_client.training.monitored.hook import SessionRunArgs, SessionRunContext, SessionRunHook, SessionRunValues
from worker_client.training.monitored.monitored_session import (
    MonitoredSession,
    MonitoredTrainingSession,
    SingularMonitoredSession,
)
from worker_client.training.monitored.queue_runners import QueueRunner, add_queue_runner, start_queue_runners
from worker_client.training.monitored.scaffold import Scaffold
from worker_client.training.monitored.session_creators import (
    ChiefSessionCreator,
    SessionCreator,
    WorkerSessionCreator,
)
from worker_client.training.monitored.session_manager import SessionManager
from worker_client.training.monitored.step_hooks import GlobalStepWaiterHook, StepCounterHook, StopAtStepHook
from worker_client.training.monitored.summary_hook import SummarySaverHook
from worker_client.training.monitored.supervisor import Supervisor, basic_train_loop
from worker_client.training.monitored.tensor_hooks import (
    FeedFnHook,
    FinalOpsHook,
    LoggingTensorHook,
    NanLossDuringTrainingError,
    NanTensorHook,
)
from worker_client.training.monitored.timers import SecondOrStepTimer
from worker_client.training.optimizers.adam import AdamOptimizer
from worker_client.training.optimizers.adaptive import (
    AdadeltaOptimizer,
    AdagradDAOptimizer,
    AdagradOptimizer,
    ProximalAdagradOptimizer,
    RMSPropOptimizer,
)
from worker_client.training.optimizers.ftrl import FtrlOptimizer
from worker_client.training.optimizers.gradient_descent import (
    GradientDescentOptimizer,
    ProximalGradientDescentOptimizer,
)
from worker_client.training.optimizers.momentum import MomentumOptimizer
from worker_client.training.optimizers.moving_averages import ExponentialMovingAverage
from worker_client.training.optimizers.optimizer import Optimizer
from worker_client.training.savers.newest_checkpoint import checkpoints_iterator
from worker_client.training.savers.saver import Saver
from worker_client.training.savers.saver_graph import SaverDef
from worker_client.training.savers.warm_start import init_from_checkpoint, warm_start
from worker_client.training.server import Server, ServerDef
from worker_client.training.synchronous.optimizer import SyncReplicasOptimizer
from worker_client.values.left_out import getattr_of

__all__ = [
    "AdadeltaOptimizer",
    "AdagradDAOptimizer",
    "AdagradOptimizer",
    "AdamOptimizer",
    "CheckpointSaverHook",
    "CheckpointSaverListener",
    "ChiefSessionCreator",
    "ClusterSpec",
    "Coordinator",
    "ExponentialMovingAverage",
    "FeedFnHook",
    "FinalOpsHook",
    "FtrlOptimizer",
    "GlobalStepWaiterHook",
    "GradientDescentOptimizer",
    "LoggingTensorHook",
    "LooperThread",
    "MomentumOptimizer",
    "MonitoredSession",
    "MonitoredTrainingSession",
    "NanLossDuringTrainingError",
    "NanTensorHook",
    "NewCheckpointReader",
    "Optimizer",
    "ProximalAdagradOptimizer",
    "ProximalGradientDescentOptimizer",
    "QueueRunner",
    "RMSPropOptimizer",
    "Saver",
    "SaverDef",
    "Scaffold",
    "SecondOrStepTimer",
    "Server",
    "ServerDef",
    "SessionCreator",
    "SessionManager",
    "SessionRunArgs",
    "SessionRunContext",
    "SessionRunHook",
    "SessionRunValues",
    "SingularMonitoredSession",
    "StepCounterHook",
    "StopAtStepHook",
    "SummarySaverHook",
    "Supervisor",
    "SyncReplicasOptimizer",
    "WorkerSessionCreator",
    "add_queue_runner",
    "assert_global_step",
    "basic_train_loop",
    "checkpoint_exists",
    "checkpoints_iterator",
    "create_global_step",
    "generate_checkpoint_state_proto",
    "get_checkpoint_mtimes",
    "get_checkpoint_state",
    "get_global_step",
    "get_or_create_global_step",
    "global_step",
    "init_from_checkpoint",
    "latest_checkpoint",
    "list_variables",
    "load_checkpoint",
    "load_variable",
    "remove_checkpoint",
    "replica_device_setter",
    "start_queue_runners",
    "update_checkpoint_state",
    "warm_start",
]
__all__ += _learning_rate.__all__

__getattr__ = getattr_of("train")
