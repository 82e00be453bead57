"""Switches of TensorFlow that programs set first. They have no effect here."""

from __future__ import annotations


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
