"""Finds, or makes, the operations with which a session starts: initialisation, readiness, summaries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.keys import GraphKeys
from worker_client.ops.collections import global_variables
from worker_client.ops.control_flow import group
from worker_client.ops.initialization import (
    global_variables_initializer,
    local_variables_initializer,
    report_uninitialized_variables,
    tables_initializer,
)
from worker_client.summaries.ops import merge_all
from worker_client.training.monitored.log import LOG
from worker_client.training.savers.saver import Saver


class Scaffold:
    """The operations with which a session starts. What is not given is looked for in collections, or made.

    Args:
        init_op: Gives variables their initial values.
        init_feed_dict: What is fed to it.
        init_fn: Called after it with the scaffold and the session.
        ready_op: Its value are the names of variables that have no value, none if all is ready.
        ready_for_local_init_op: The same of those variables that ``local_init_op`` needs.
        local_init_op: Gives local variables their initial values, in each process.
        summary_op: All summaries in one.
        saver: Saves and restores the variables; one of all global variables if not given.
        copy_from_scaffold: Where to take what is not given.
        local_init_feed_dict: What is fed to ``local_init_op``.

    Raises:
        TypeError: ``copy_from_scaffold`` is no scaffold.
    """

    def __init__(
        self,
        init_op: Any = None,
        init_feed_dict: Mapping[Any, Any] | None = None,
        init_fn: Callable[[Scaffold, Any], Any] | None = None,
        ready_op: Any = None,
        ready_for_local_init_op: Any = None,
        local_init_op: Any = None,
        summary_op: Any = None,
        saver: Saver | None = None,
        copy_from_scaffold: Scaffold | None = None,
        local_init_feed_dict: Mapping[Any, Any] | None = None,
    ):
        other = copy_from_scaffold
        if other is not None and not isinstance(other, Scaffold):
            raise TypeError("copy_from_scaffold is not a Scaffold instance.")

        def given(value: Any, name: str) -> Any:
            return getattr(other, name) if value is None and other is not None else value

        self._user_init_fn = given(init_fn, "_user_init_fn")
        self._init_op = given(init_op, "init_op")
        self._init_feed_dict: Mapping[Any, Any] | None = given(init_feed_dict, "init_feed_dict")
        self._ready_op = given(ready_op, "ready_op")
        self._ready_for_local_init_op = given(ready_for_local_init_op, "ready_for_local_init_op")
        self._local_init_op = given(local_init_op, "local_init_op")
        self._local_init_feed_dict: Mapping[Any, Any] | None = given(local_init_feed_dict, "local_init_feed_dict")
        self._summary_op = given(summary_op, "summary_op")
        self._saver: Any = given(saver, "saver")

    def finalize(self) -> Scaffold:
        """Makes what is missing, and allows no more operations in the default graph.

        Raises:
            RuntimeError: A collection holds several operations of one kind.
        """
        found, keys = self.get_or_default, GraphKeys
        if self._init_op is None:
            self._init_op = found("init_op", keys.INIT_OP, lambda: group(global_variables_initializer()))
        if self._ready_op is None:
            self._ready_op = found("ready_op", keys.READY_OP, report_uninitialized_variables)
        if self._ready_for_local_init_op is None:
            self._ready_for_local_init_op = found(
                "ready_for_local_init_op",
                keys.READY_FOR_LOCAL_INIT_OP,
                lambda: report_uninitialized_variables(global_variables()),
            )
        if self._local_init_op is None:
            self._local_init_op = found("local_init_op", keys.LOCAL_INIT_OP, self.default_local_init_op)
        if self._summary_op is None:
            self._summary_op = found("summary_op", keys.SUMMARY_OP, merge_all)
        if self._saver is None:
            self._saver = found("saver", keys.SAVERS, lambda: Saver(sharded=True, allow_empty=True))
        self._saver.build()
        get_default_graph().finalize()
        LOG.info("Graph was finalized.")
        return self

    @property
    def init_fn(self) -> Callable[[Any], Any] | None:
        """The function called with a session after ``init_op``, None if there is none."""
        function = self._user_init_fn
        return None if function is None else lambda session: function(self, session)

    @property
    def init_op(self) -> Any:
        return self._init_op

    @property
    def init_feed_dict(self) -> Mapping[Any, Any] | None:
        return self._init_feed_dict

    @property
    def ready_op(self) -> Any:
        return self._ready_op

    @property
    def ready_for_local_init_op(self) -> Any:
        return self._ready_for_local_init_op

    @property
    def local_init_op(self) -> Any:
        return self._local_init_op

    @property
    def local_init_feed_dict(self) -> Mapping[Any, Any] | None:
        return self._local_init_feed_dict

    @property
    def summary_op(self) -> Any:
        return self._summary_op

    @property
    def saver(self) -> Any:
        """Saves and restores the variables."""
        return self._saver

    @staticmethod
    def get_or_default(arg_name: str, collection_key: str, default_constructor: Callable[[], Any]) -> Any:
        """Returns the member of a collection, made and added to it if there is none.

        Raises:
            RuntimeError: It has several.
        """
        graph = get_default_graph()
        members = graph.get_collection(collection_key)
        if len(members) > 1:
            raise RuntimeError(
                f'More than one item in the collection "{collection_key}". Please indicate which one to use by passing '
                f"it to the tf.Scaffold constructor as:  tf.Scaffold({arg_name}=item to use)"
            )
        if members:
            return members[0]
        made = default_constructor()
        if made is not None:
            graph.add_to_collection(collection_key, made)
        return made

    @staticmethod
    def default_local_init_op() -> Any:
        """Returns an operation that gives all local variables their initial values."""
        return group(local_variables_initializer(), tables_initializer())
