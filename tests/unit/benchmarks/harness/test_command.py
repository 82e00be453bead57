"""Options that the commands share."""

from __future__ import annotations

import argparse

import pytest

from benchmarks.harness.command import Chosen


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ([], ["a", "b", "c"]),
        (["--what", "a"], ["a"]),
        (["--what", "a", "b"], ["a", "b"]),
        (["--what", "c", "--what", "a", "b"], ["c", "a", "b"]),
    ],
)
def test_an_option_may_be_given_several_times(arguments: list[str], chosen: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--what", nargs="+", action=Chosen, choices=["a", "b", "c"], default=["a", "b", "c"])
    assert parser.parse_args(arguments).what == chosen
    assert parser.parse_args(arguments).what == chosen
