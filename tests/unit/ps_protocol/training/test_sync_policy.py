"""The one argument that says how workers train together."""

from __future__ import annotations

from typing import Any

import pytest

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.training.sync_policy import OnMissing, SyncKind, SyncPolicy, contradiction


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("async", "async"),
        ("async(max_staleness=8)", "async(max_staleness=8)"),
        ("bsp", "bsp"),
        ("bsp()", "bsp"),
        ("bsp(total=4)", "bsp(total=4)"),
        (" ssp( 3 ) ", "ssp(3)"),
        ("ssp(bound=3)", "ssp(3)"),
        ("ssp(0)", "ssp(0)"),
        ("sync(3)", "sync(3)"),
        ("sync(total=4, replicas_to_aggregate=3)", "sync(3, total=4)"),
        ("local(16)", "local(16)"),
        ("bsp(on_missing='wait', missing_timeout_s=2.5)", "bsp(on_missing=wait, missing_timeout_s=2.5)"),
        ("bsp(on_missing=shrink, missing_timeout_s=60)", "bsp"),
        ("sync(3, rows=present)", "sync(3, rows=present)"),
        ("bsp(rows=all)", "bsp"),
    ],
)
def test_a_policy_has_one_text(text: str, canonical: str) -> None:
    policy = SyncPolicy.parse(text)
    assert f"{policy}" == canonical
    assert SyncPolicy.parse(canonical) == policy
    assert SyncPolicy.parse(policy) == policy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sspp(3)", "did you mean 'ssp(3)'?"),
        ("SSP(3)", "did you mean 'ssp(3)'?"),
        ("synchronous", "did you mean 'bsp'?"),
        ("diloco(4)", "did you mean 'local(16)'?"),
        ("xyzzy", "write one of 'async', 'bsp', 'ssp(3)', 'sync(3, total=4)', 'local(16)'"),
        ("ssp(3", "write one of 'async', 'bsp'"),
        ("", "write one of"),
        ("ssp", "ssp needs bound, a whole number from 0 to 64; write it as in 'ssp(3)'"),
        ("local", "local needs steps, a whole number from 1 to 1000000"),
        ("bsp(3)", "did you mean 'ssp(3)', 'sync(3)' or 'bsp(total=3)'?"),
        ("async(8)", "did you mean 'async(max_staleness=8)' or 'ssp(8)'?"),
        ("ssp(3, 4)", "'4' is another one; write the name"),
        ("ssp(3, bound=4)", "ssp is given bound twice"),
        ("ssp(-1)", "bound of ssp is '-1'; give a whole number from 0 to 64, as in 'ssp(3)'"),
        ("ssp(1.5)", "bound of ssp is '1.5'"),
        ("sync(0)", "replicas_to_aggregate of sync is '0'; give a whole number from 1 to 1024"),
        ("sync(4, total=3)", "above the 3 that there are, and none is a backup"),
        ("bsp(on_mising=wait)", "did you mean on_missing?"),
        ("bsp(on_missing=stop)", "on_missing of bsp is 'stop'; give shrink or wait or fail"),
        ("bsp(rows=some)", "rows of bsp is 'some'; give all or present"),
        ("bsp(missing_timeout_s=nan)", "missing_timeout_s of bsp is 'nan'"),
        ("async(on_missing=wait)", "its workers wait for nobody"),
        ("ssp(3, max_staleness=4)", "the policy ssp has no setting 'max_staleness'"),
    ],
)
def test_what_is_no_policy_says_what_may_be_meant(text: str, said: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        SyncPolicy.parse(text)
    assert said in caught.value.message


def test_settings_beside_the_text_take_the_place_of_those_in_it() -> None:
    policy = SyncPolicy.parse("bsp(on_missing=fail)", on_missing="wait", missing_timeout_s=5)
    assert (policy.on_missing, policy.missing_timeout_s) == (OnMissing.WAIT, 5.0)
    with pytest.raises(InvalidArgumentError, match="give shrink or wait or fail"):
        SyncPolicy.parse("bsp", on_missing="stop")
    with pytest.raises(InvalidArgumentError, match="wait for nobody"):
        SyncPolicy.parse("async", on_missing="wait")


def test_a_policy_that_is_made_by_hand_is_checked() -> None:
    assert f"{SyncPolicy(SyncKind.SSP, bound=2)}" == "ssp(2)"
    wrongs: list[dict[str, Any]] = [{"bound": 65}, {"bound": True}, {"local_steps": 2}, {"on_missing": "wait"}]
    for wrong in wrongs:
        with pytest.raises(InvalidArgumentError):
            SyncPolicy(SyncKind.SSP, **wrong)
    with pytest.raises(InvalidArgumentError, match="replicas_to_aggregate"):
        SyncPolicy(SyncKind.SYNC)


def test_how_many_workers_start_and_how_many_gradients_a_ps_keeps() -> None:
    started = {text: SyncPolicy.parse(text).workers_to_start for text in ("bsp", "bsp(total=4)", "sync(3, total=4)")}
    assert started == {"bsp": 1, "bsp(total=4)": 4, "sync(3, total=4)": 3}
    slots = {text: SyncPolicy.parse(text).staging_slots for text in ("bsp", "ssp(3)", "async(max_staleness=8)")}
    assert slots == {"bsp": 1, "ssp(3)": 4, "async(max_staleness=8)": 1}


def test_two_policies_differ_in_words() -> None:
    def said(one: str, other: str) -> str:
        return contradiction(SyncPolicy.parse(one), "worker:1", SyncPolicy.parse(other), "worker:0")

    assert said("ssp(3)", "bsp") == "worker:1 asks for ssp(3), the group has bsp since worker:0 joined"
    assert said("bsp(on_missing=wait)", "bsp") == (
        "worker:1 asks for bsp(on_missing=wait), the group has bsp since worker:0 joined"
    )
    assert said("bsp", "bsp") == ""
    assert said("ssp(0)", "bsp") == said("bsp", "ssp(0)") == "", "they are the same"


def test_an_example_is_given_only_if_it_has_the_setting() -> None:
    with pytest.raises(InvalidArgumentError, match=r"give shrink or wait or fail$"):
        SyncPolicy.parse("bsp(on_missing=stop)")
