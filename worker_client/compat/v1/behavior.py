"""Switches of TensorFlow that have nothing to switch here; they are there for programs that set them first."""

from __future__ import annotations


class _Switches:
    resource_variables = False


def enable_resource_variables() -> None:
    """Remembers the wish. All variables are of one kind, which behaves as TensorFlow's "resource" variables do."""
    _Switches.resource_variables = True


def disable_resource_variables() -> None:
    """Takes the wish back."""
    _Switches.resource_variables = False


def resource_variables_enabled() -> bool:
    """Returns whether the wish is standing."""
    return _Switches.resource_variables


def disable_v2_behavior() -> None:
    """Does nothing: these names always behave as TensorFlow 1's."""
