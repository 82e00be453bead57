"""TensorFlow 1's ``SyncReplicasOptimizer``: one step of the mean of the gradients of several workers."""

from __future__ import annotations

from typing import Any

from ps_protocol.shared_objects import Json
from worker_client.graph.computation import TrainingHome
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.graph.operation import Operation, Tensor
from worker_client.ops.collections import global_variables
from worker_client.ops.constant_ops import fill
from worker_client.ops.control_flow import group, no_op
from worker_client.ops.initialization import report_uninitialized_variables
from worker_client.ops.state_ops import assign
from worker_client.resources.accumulators import ConditionalAccumulator, SparseConditionalAccumulator, Taking
from worker_client.scopes.creation import new_variable
from worker_client.training.monitored.log import LOG
from worker_client.training.monitored.queue_runners import QueueRunner
from worker_client.training.optimizers.optimizer import GradientsAndVariables, Optimizer
from worker_client.training.synchronous.crew import KEPT_ROUNDS, Crew, StepTaking
from worker_client.training.synchronous.hook import SyncReplicasHook
from worker_client.training.synchronous.tokens import TokenQueue
from worker_client.values.conversion import IndexedSlices


class SyncReplicasOptimizer(Optimizer):
    """Applies one step of the mean of the gradients of several workers, and has all workers wait for it.

    Each worker pushes its gradients into accumulators beside the variables, then waits for a token. The chief's queue
    runner takes the means as soon as there are enough gradients, makes the step of ``opt`` with them, and hands out a
    token for each worker.

    Args:
        opt: Computes gradients, and makes the step.
        replicas_to_aggregate: How many gradients a step takes at least.
        total_num_replicas: How many workers there are; as many if not given. More are backups, whose gradients are
            dropped when they come late. If there are fewer, each worker hands in several gradients for a step.
        variable_averages: An ``ExponentialMovingAverage``, moved after each step.
        variables_to_average: Of which variables it keeps averages.
        use_locking: Only noted; every step is atomic.
        name: Scope of the accumulators.
    """

    def __init__(
        self,
        opt: Optimizer,
        replicas_to_aggregate: int,
        total_num_replicas: int | None = None,
        variable_averages: Any = None,
        variables_to_average: Any = None,
        use_locking: bool = False,
        name: str = "sync_replicas",
    ):
        total = replicas_to_aggregate if total_num_replicas is None else total_num_replicas
        super().__init__(use_locking, name)
        LOG.info("SyncReplicasV2: replicas_to_aggregate=%s; total_num_replicas=%s", replicas_to_aggregate, total)
        self._opt = opt
        self._replicas_to_aggregate = replicas_to_aggregate
        self._total_num_replicas = total
        self._counts_workers = not (isinstance(total, int) and total < replicas_to_aggregate)
        self._tokens_per_step = max(total, replicas_to_aggregate)
        self._variable_averages = variable_averages
        self._variables_to_average = variables_to_average
        self._accumulators: list[tuple[ConditionalAccumulator | SparseConditionalAccumulator, str]] = []
        self._global_step: Any = None
        self._queue: TokenQueue | None = None
        self._steps: Any = None
        self._chief_queue_runner: QueueRunner | None = None

    def compute_gradients(self, *args: Any, **kwargs: Any) -> GradientsAndVariables:
        """Does what that of the inner optimizer does."""
        return self._opt.compute_gradients(*args, **kwargs)

    def apply_gradients(  # type: ignore[override]  # as TensorFlow's
        self, grads_and_vars: Any, global_step: Any = None, name: str | None = None
    ) -> Tensor:
        """Adds what each worker runs for a step, and what the chief's queue runner runs.

        Args:
            grads_and_vars: As ``compute_gradients`` returns them.
            global_step: Counts the steps; gradients of earlier ones are dropped.
            name: Ignored, as in TensorFlow.

        Returns:
            What a worker runs: it pushes its gradients, waits for a token, and returns the step that follows.

        Raises:
            ValueError: There are no pairs, no step, or a gradient is no tensor.
        """
        del name
        if not grads_and_vars:
            raise ValueError("Must supply at least one variable")
        if global_step is None:
            raise ValueError("Global step is required to check staleness")
        self._global_step = global_step
        graph = get_default_graph()
        local_step = self._make_local_step(graph)
        pushes: list[Operation] = []
        taken: list[Any] = []
        variables: list[Any] = []
        with graph.name_scope(self._name):
            for gradient, variable in grads_and_vars:
                variables.append(variable)
                taken.append(None if gradient is None else self._aggregated(gradient, variable, local_step, pushes))
            with graph.device(global_step.device), graph.name_scope(""):
                update = self._opt.apply_gradients(zip(taken, variables, strict=True), global_step)
                self._queue = TokenQueue(global_step.dtype.base_dtype, once=self._counts_workers, crew=self._crew_in)
                with graph.control_dependencies(pushes):
                    token = self._queue.dequeue()
                train: Tensor = assign(local_step, token)
                with graph.control_dependencies([update]):
                    tokens = fill([self._tokens_per_step], global_step)
                    done = self._queue.enqueue_tokens(tokens, keep=KEPT_ROUNDS * self._tokens_per_step)
                if self._variable_averages is not None:
                    with graph.control_dependencies([done]), graph.name_scope(""):
                        done = self._variable_averages.apply(self._variables_to_average)
                self._steps = done
                self._chief_queue_runner = QueueRunner(self._queue, [done])
            set_steps = []
            for accumulator, device in self._accumulators:
                with graph.device(device):
                    set_steps.append(accumulator.set_global_step(global_step, name="SetGlobalStep"))
            self.chief_init_op = group(self.local_step_init_op, *set_steps)
        return train

    def _make_local_step(self, graph: Graph) -> Any:
        """Makes the variable that has the step of this worker, beside an operation of this worker."""
        step = self._global_step
        with graph.colocate_with(no_op()):
            local_step = new_variable(
                0,
                trainable=False,
                collections=[GraphKeys.LOCAL_VARIABLES],
                dtype=step.dtype.base_dtype,
                name="sync_rep_local_step",
            )
        self.local_step_init_op = assign(local_step, step)
        self.ready_for_local_init_op = report_uninitialized_variables(global_variables())
        self._local_step = local_step
        return local_step

    def _aggregated(self, gradient: Any, variable: Any, local_step: Any, pushes: list[Operation]) -> Any:
        """Makes the accumulator of a variable, and what pushes into it; returns what is taken of it."""
        graph, shared_name = get_default_graph(), f"{variable.name}/grad_accum"
        with graph.device(variable.device):
            accumulator: ConditionalAccumulator | SparseConditionalAccumulator
            mean: Any
            if isinstance(gradient, Tensor):
                accumulator = ConditionalAccumulator(gradient.dtype, shape=variable.shape, shared_name=shared_name)
                pushes.append(
                    accumulator.apply_grad(
                        gradient, local_step, once_for_each_worker=self._counts_workers, heard=self._pushed
                    )
                )
                mean = accumulator.take_grad(self._replicas_to_aggregate, taker=self._taker)
            elif isinstance(gradient, IndexedSlices):
                accumulator = SparseConditionalAccumulator(gradient.dtype, shape=(), shared_name=shared_name)
                pushes.append(
                    accumulator.apply_indexed_slices_grad(
                        gradient, local_step, once_for_each_worker=self._counts_workers, heard=self._pushed
                    )
                )
                mean = accumulator.take_indexed_slices_grad(self._replicas_to_aggregate, taker=self._taker)
            else:
                raise ValueError("Unknown grad type!")  # noqa: TRY004 - as TensorFlow
        self._accumulators.append((accumulator, variable.device))
        return mean

    def _crew_in(self, home: TrainingHome) -> Crew:
        """Returns who trains together, as the session of a home sees them."""
        assert self._queue is not None
        tokens = self._queue.shared
        crew: Crew = home.kept(
            self,
            lambda: Crew(
                home,
                tokens=tokens,
                accumulators=[each.shared for each, _ in self._accumulators],
                aggregate=self._replicas_to_aggregate,
                total=self._total_num_replicas,
                steps=self._steps,
                global_step=self._global_step,
            ),
        )
        return crew

    def _pushed(self, home: TrainingHome, answer: Json) -> None:
        self._crew_in(home).pushed(answer)

    def _taker(self, home: TrainingHome, taking: Taking) -> StepTaking:
        return StepTaking(self._crew_in(home), taking)

    def get_chief_queue_runner(self) -> QueueRunner:
        """Returns what makes the steps in the chief's session; that which the hook starts.

        Raises:
            ValueError: ``apply_gradients`` was not called before.
        """
        if self._chief_queue_runner is None:
            raise ValueError("Should be called after apply_gradients().")
        return self._chief_queue_runner

    def get_init_tokens_op(self, num_tokens: int = -1) -> Operation:
        """Adds an operation that hands out tokens before the first step.

        Args:
            num_tokens: How many; -1 for ``replicas_to_aggregate``.

        Raises:
            ValueError: ``apply_gradients`` was not called before, or with so few tokens there would be no first step.
        """
        if self._queue is None:
            raise ValueError("get_init_tokens_op() should be called after apply_gradients().")
        needed = self._replicas_to_aggregate - self._total_num_replicas
        number = self._replicas_to_aggregate if num_tokens == -1 else num_tokens
        if number < needed:
            raise ValueError(f"Too few tokens to finish the first step: {number:d} (given) vs {needed:d} (needed)")
        if number <= 0:
            return no_op(name="no_init_tokens")
        graph = get_default_graph()
        with graph.device(self._global_step.device), graph.name_scope(""):
            return self._queue.enqueue_many((fill([number], self._global_step),))

    def make_session_run_hook(self, is_chief: bool, num_tokens: int = -1) -> SyncReplicasHook:
        """Returns a hook that a monitored session needs to train.

        Args:
            is_chief: Whether it initialises the accumulators, hands out tokens, and makes the steps.
            num_tokens: As of ``get_init_tokens_op``.
        """
        return SyncReplicasHook(self, self._crew_in, is_chief, num_tokens)

    def get_slot(self, *args: Any, **kwargs: Any) -> Any:
        """Does what that of the inner optimizer does."""
        return self._opt.get_slot(*args, **kwargs)

    def get_slot_names(self, *args: Any, **kwargs: Any) -> list[str]:
        """Does what that of the inner optimizer does."""
        return self._opt.get_slot_names(*args, **kwargs)

    def variables(self) -> list[Any]:
        """Returns the variables of the inner optimizer."""
        return self._opt.variables()
