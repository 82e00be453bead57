"""What is for models of other libraries, where one of these is not installed."""

from __future__ import annotations

import sys

import pytest

import shardscope as ss


@pytest.mark.parametrize("name", ["jax", "sklearn", "torch"])
def test_a_library_that_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module in list(sys.modules):
        if module == f"worker_client.{name}" or module.startswith(f"worker_client.adapters.{name}_"):
            monkeypatch.delitem(sys.modules, module)
    for module in [name, *[each for each in sys.modules if each.startswith(f"{name}.")]]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImportError, match=rf"ss.{name} needs .*, which is not installed: pip install 'shardscope\[{name}\]'"
    ):
        getattr(ss, name)


def test_a_name_that_is_none_of_them_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'tinygrad'"):
        ss.tinygrad  # type: ignore[attr-defined] # noqa: B018
