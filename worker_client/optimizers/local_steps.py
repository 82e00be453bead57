"""Steps that a worker makes alone, on copies of the variables in its own process, between rounds with the others.

After so many steps it hands in how far it has come, as the gradient of a round: the ps tasks apply an outer optimizer,
Nesterov's momentum, to the average of what all have handed in, and each worker goes on from there with the state of its
own optimizer. That is DiLoCo (A. Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models",
2023, arXiv:2311.08105). With an outer rate of 1 and no momentum it is the average of the workers' models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import numpy as np

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import VariableSpec
from worker_client.connection.completes import Completes
from worker_client.connection.fanout import Fanout
from worker_client.optimizers.outcomes import Applied
from worker_client.placement.beside import Beside, declare_beside
from worker_client.variables.found import FoundVariables
from worker_client.variables.mirror import Mirror
from worker_client.variables.parts import EagerVariable
from worker_client.variables.variable import Variable

_ZEROS: Final = InitializerSpec(ConstantKind(0.0))


class LocalSteps:
    """The steps of one worker alone. One thread at a time makes one.

    Args:
        fanout: The way to the ps tasks.
        num_steps: How many steps there are between two rounds.
        variables: What is trained.
        inner: The worker's own optimizer, which applies gradients at once.
        outer: That of the rounds.

    Attributes:
        outer: That of the rounds.
        model: The number of the newest one that was read.
    """

    def __init__(
        self, fanout: Fanout, *, num_steps: int, variables: Sequence[EagerVariable], inner: Any, outer: Any
    ) -> None:
        specs = [each.whole_spec for each in variables]
        own = [VariableSpec(f"{each.name}/{inner.name}/local", each.dtype, each.shape) for each in specs]
        declare_beside(fanout, [Beside(each, _ZEROS, None) for each in own])
        found = FoundVariables(fanout)
        self._num_steps, self._inner, self.outer = num_steps, inner, outer
        self._variables = tuple(variables)
        self._copies = {each: found.variable(spec, None) for each, spec in zip(variables, own, strict=True)}
        self._newest = Mirror(fanout, variables)
        self._has_begun = False
        self._done = 0
        self.model = 0

    def join(self, global_step: Variable | None, pull: Mirror | None) -> int:
        """Enters the rounds and goes on from the newest model; returns its number."""
        self._has_begun = False
        self.model = self.outer.join(self._variables, global_step=global_step, pull=self._newest)
        self._go_on_from_newest()
        self._show(pull)
        return self.model

    def step(
        self,
        pairs: Sequence[tuple[Any, EagerVariable]],
        learning_rate: float | None,
        global_step: Variable | None,
        pull: Mirror | None,
        completes: Completes | None = None,
    ) -> list[Applied]:
        """Makes a step alone, and a round if it is the last one before that, or completes a piece of a shard.

        Args:
            pairs: A gradient for each variable.
            learning_rate: Of the worker's own optimizer.
            global_step: Counts the rounds.
            pull: A mirror that gets the values of this worker's copies.
            completes: A shard, or a piece of one: what all steps since the last round were made with.

        Returns:
            For each pair what became of it: of the round, "pending" if there was none.

        Raises:
            InvalidArgumentError: There is not one gradient for each variable.
            ShardscopeError: As of a step of a round. The next step is from the newest model.
        """
        if len(pairs) != len(self._copies) or {each for _, each in pairs} != set(self._copies):
            raise InvalidArgumentError(
                f"{self._inner.name} makes steps alone with {len(self._copies)} variables, and each step has one "
                f"gradient of each of them; train others with an optimizer of another name"
            )
        if not self._has_begun:
            self.join(global_step, None)
        own = [(gradient, self._copies[variable]) for gradient, variable in pairs]
        made: list[Applied] = self._inner.apply_gradients(own, learning_rate=learning_rate)
        self._done += 1
        if self._done >= self._num_steps or completes is not None:
            of_round = self._round(global_step, completes)
        else:
            of_round = Applied("pending", self.model, self.model + 1)
        self._show(pull)
        return [of_round._replace(verdict="skipped") if each.verdict == "skipped" else of_round for each in made]

    def _round(self, global_step: Variable | None, completes: Completes | None) -> Applied:
        """Hands in how far it has come since the last round."""
        starts = zip(self._variables, self._newest.values, strict=True)
        moved = [(start - np.asarray(self._copies[variable].numpy()), variable) for variable, start in starts]
        self._has_begun = False  # whatever ends this, the next step is from the newest model
        outcome: Applied = self.outer.apply_gradients(
            moved, global_step=global_step, pull=self._newest, completes=completes
        )[0]
        self.model = cast(int, outcome.version)
        self._go_on_from_newest()
        return outcome

    def _show(self, pull: Mirror | None) -> None:
        """Writes the values of the copies into a mirror, whose other variables are read."""
        if pull is not None:
            if not self._copies.keys() >= set(pull.variables):
                pull.pull()
            for variable, value in zip(pull.variables, pull.values, strict=True):
                if variable in self._copies:
                    np.copyto(value, self._copies[variable].numpy())

    def _go_on_from_newest(self) -> None:
        for variable, value in zip(self._variables, self._newest.values, strict=True):
            self._copies[variable].assign(value)
        self._done, self._has_begun = 0, True
