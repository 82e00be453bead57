"""Switches of TensorFlow that programs set first. They have no effect here."""

from __future__ import annotations

from worker_client.graph.default_graph import get_default_graph


class _Switches:
    resource_variables = False


def enable_resource_variables() -> None:
    """Only remembers the call: all variables behave as TensorFlow's "resource" variables do."""
    _Switches.resource_variables = True


def disable_resource_variables() -> None:
    """Forgets that call."""
    _Switches.resource_variables = False


def resource_variables_enabled() -> bool:
    """Returns whether they were enabled last."""
    return _Switches.resource_variables


def disable_v2_behavior() -> None:
    """Does nothing: these names always behave as TensorFlow 1's."""


disable_control_flow_v2 = disable_tensor_equality = disable_v2_tensorshape = disable_v2_behavior


def disable_eager_execution() -> None:
    """Does nothing: a program of these names starts with a graph that sessions run."""


def executing_eagerly() -> bool:
    """Whether the default graph is one in which everything happens at once, as a connection's own."""
    return not get_default_graph().deferred
