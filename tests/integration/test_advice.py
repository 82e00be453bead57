"""Every piece of advice to an operator of pairs, and every command of docs/operations.md, has a test that follows it.

``DOCUMENTED`` is of the page: each of its blocks of commands, and each row of its tables that say what to do.
``LOGGED`` is of what processes and ``shardscope`` say of pairs, lost state and coordinators. Advice that is new, and
advice that is gone, fails a test here until the list has it, or has it no more.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
OPERATIONS: Final = (ROOT / "docs/operations.md").read_text(encoding="utf-8")

_EMPTIED: Final = (
    "integration/test_kept_pairs.py::test_with_a_store_that_was_emptied_the_operator_has_the_newest_state_go_on"
)

_DIRECTORY: Final = "unit/ps_server/durability/disk/test_data_directory.py"
DOCUMENTED: Final = {
    # commands
    "shardscope up --ps 2 --workers 3": (
        "integration/test_up.py::test_workers_run_against_ps_tasks_and_their_output_has_their_name",
    ),
    '--cluster "ps=host0:2222,host1:2222" --task-index 0\n': (
        "integration/test_ps_process.py::test_says_in_one_line_that_it_listens_and_logs_to_standard_error",
    ),
    "export TF_CONFIG": ("integration/test_ps_process.py::test_can_be_told_all_by_tf_config",),
    "docker compose -f deploy/compose.yaml up --build": (
        "compose/test_training.py::test_trains_and_returns_by_itself",
    ),
    "--functions team.rules": ("integration/test_function_modules.py::test_a_journal_calls_them_again",),
    "--durability journal --data-dir": (
        "integration/test_durable_ps.py::test_all_that_was_acknowledged_survives_a_kill",
    ),
    'COORDINATOR="etcd://': ("integration/test_operations.py::test_a_pair_is_started_as_it_is_written",),
    "SHARDSCOPE_COORDINATOR: file:///coordination": (
        "integration/test_operations.py::test_the_service_of_a_backup_in_compose_has_options_that_make_sense",
    ),
    "shardscope health --ready": ("integration/test_operations.py::test_a_pair_is_started_as_it_is_written",),
    "shardscope health host0:2222": (
        "integration/test_cli.py::test_health",
        "integration/test_cli.py::test_health_of_all_ps_tasks_by_one_address",
        "integration/test_ps_process.py::test_reflection_lists_the_services",
    ),
    "shardscope ls --tasks --cluster ps=host0": (
        "integration/test_cli.py::test_ls_lists_the_variables_of_all_ps_tasks",
        "integration/test_cli.py::test_ls_lists_tasks",
    ),
    'shardscope ls --cluster "ps=host0:2222,host1:2222;backup=': (
        "integration/test_replication.py::test_what_is_seen_of_a_pair_and_how_it_is_shut_down",
    ),
    "shardscope get hidden/weights": (
        "integration/test_cli.py::test_get_shows_a_variable_and_takes_no_part",
        "integration/test_cli.py::test_get_writes_json_and_files_of_what_neither_knows",
    ),
    # a ps that does not start, or does not go on
    "the data directory is held by the process": ("integration/test_durable_ps.py::test_a_second_process_is_refused",),
    "the journal file ... is damaged at the record": (
        "integration/test_durable_ps.py::test_a_damaged_journal_is_never_served",
        "unit/ps_server/durability/journal/test_journal.py::test_the_remedy_that_is_named_works",
    ),
    "the snapshot ... is damaged": ("integration/test_durable_ps.py::test_a_damaged_snapshot_is_never_served",),
    "the data directory ... cannot be used": (
        f"{_DIRECTORY}::test_a_file_in_the_way_is_refused",
        f"{_DIRECTORY}::test_a_file_system_without_locks_is_refused",
    ),
    "format.json is damaged": (
        f"{_DIRECTORY}::test_a_damaged_format_is_refused_and_left_alone",
        f"{_DIRECTORY}::test_state_without_a_format_is_refused",
        f"{_DIRECTORY}::test_a_lock_that_is_not_what_it_seems_is_left_alone",
    ),
    "calls a function which this process does not know": (
        "integration/test_function_modules.py::test_a_ps_without_them_says_at_its_start_what_is_missing",
    ),
    "the state in ... cannot be used, with an error of the disk": (
        "unit/ps_server/process/test_start.py::test_what_a_later_start_may_remedy_has_another_code_than_damage",
    ),
    "belongs to a cluster of 2 ps tasks": (
        "unit/ps_server/durability/disk/test_data_directory.py::test_another_number_of_ps_tasks_is_refused",
        "unit/ps_server/durability/disk/test_data_directory.py::test_another_tasks_directory_is_refused",
        "unit/ps_server/durability/disk/test_data_directory.py::test_a_newer_format_is_refused",
    ),
    "the state does not fit": ("integration/test_durable_ps.py::test_a_state_beyond_the_memory_limit_is_refused",),
    "ending at once, and which epoch has begun without it": (
        "integration/test_failover.py::test_the_operator_promotes_a_backup",
    ),
    "updates can no longer be made safe": (
        "integration/test_durable_ps.py::test_an_error_after_which_nothing_is_safe_ends_the_process",
    ),
    # states of a process of a pair
    "| `primary` | answers clients": ("integration/test_failover.py::test_the_operator_promotes_a_backup",),
    "and its backup has not been heard of": (
        "integration/test_replication.py::test_updates_wait_for_a_backup_that_is_gone_until_the_task_goes_on_alone",
    ),
    "| `backup` | has every update": (
        "integration/test_replication.py::test_a_backup_takes_over_with_every_acknowledged_update",
    ),
    "| `catching up` |": ("integration/test_failover.py::test_a_rolling_restart_loses_no_primary_and_no_update",),
    "| `alone` |": ("integration/test_replication.py::test_what_is_seen_of_a_pair_and_how_it_is_shut_down",),
    "the coordination store has not confirmed that it is the primary": (
        "integration/test_operations.py::test_a_primary_alone_goes_on_when_its_coordinator_is_back",
    ),
    "| `empty` |": ("integration/test_failover.py::test_workers_new_and_old_go_on_after_every_pair_has_failed_over",),
    "`empty` in both places": (
        "integration/test_failover.py::test_a_state_that_is_lost_is_given_up_only_by_the_operator",
        "integration/test_operations.py::test_a_process_that_has_the_state_is_reached_again",
    ),
    "| no answer, and exit code 5 |": ("integration/test_failover.py::test_the_operator_promotes_a_backup",),
    "| no answer, and another end |": (
        "integration/test_failover.py::test_workers_new_and_old_go_on_after_every_pair_has_failed_over",
    ),
    "this process has state`, beside `catching up`": (f"{_EMPTIED}",),
    "with what another one has set aside": (
        "integration/test_kept_pairs.py::test_what_was_set_aside_is_gone_on_with_when_nothing_newer_is_left",
    ),
    "any of these, of a task with a backup": (
        "integration/test_kept_pairs.py::test_damaged_state_is_refused_and_fetched_when_it_is_moved_away",
    ),
    "is of one of two processes of ps:0 | 3": ("integration/test_kept_pairs.py::test_a_task_without_backup_gets_one",),
    "has the state of ps:0 from when it had no backup | 1": (
        "integration/test_kept_pairs.py::test_state_of_a_task_that_has_begun_without_it_is_refused",
    ),
    "a log that says that the coordinator was begun anew": (
        "integration/test_operations.py::test_data_of_a_coordinator_are_put_back",
        "integration/test_operations.py::test_without_the_data_of_a_coordinator_all_processes_begin_again",
    ),
}

WRITTEN: Final = {
    "**Both processes need the same** `--lease`": (
        "unit/ps_server/replication/test_backup_link.py::test_a_follower_with_other_settings_refuses_and_both_say_so",
    ),
    "It is refused while a primary is there": (
        "unit/ps_cluster/cli/test_promote.py::test_no_state_is_given_up_that_a_primary_has",
    ),
    "After such a loss of both, each pair catches up anew": (
        "integration/test_kept_pairs.py::test_nothing_is_lost_when_all_processes_are_killed_at_once",
    ),
    "A ps\ncan also be started on a full disk": ("chaos/test_disk.py::test_a_ps_starts_and_answers_on_a_full_disk",),
    "In `journal` mode updates wait, new ones are refused until there is room": (
        "chaos/test_disk.py::test_updates_wait_while_the_disk_is_full_and_none_is_lost",
    ),
    "Move it back (unmount what hides it), and all goes on": (
        "chaos/test_disk.py::test_nothing_is_acknowledged_while_the_directory_is_elsewhere",
    ),
    "What was deleted does not come back": (
        "chaos/test_disk.py::test_an_update_after_the_directory_was_deleted_is_an_error_that_says_so",
    ),
    "A process that has died is started again with the same command, and becomes the backup": (
        "integration/test_replication.py::test_a_backup_takes_over_with_every_acknowledged_update",
    ),
    "shardscope up --ps 2 --replicas 1 --workers 3": (
        "integration/test_up.py::test_either_process_of_a_ps_with_a_backup_may_die_and_is_started_again",
    ),
    "**A rolling restart** ends one process after the other": (
        "integration/test_failover.py::test_a_rolling_restart_loses_no_primary_and_no_update",
    ),
    "Ctrl-C, and `shardscope shutdown`, end a process\nwithout handing over": (
        "integration/test_operations.py::test_ctrl_c_ends_a_primary_without_a_handover",
        "integration/test_replication.py::test_what_is_seen_of_a_pair_and_how_it_is_shut_down",
    ),
    "Start it again with the same options": (
        "integration/test_recovery_in_place.py::test_a_worker_trains_on_while_each_ps_is_killed_and_restarted",
    ),
    "It may come back at another address": (
        "integration/test_recovery_in_place.py::test_a_ps_that_was_restarted_at_another_address_is_found",
        "integration/test_recovery_in_place.py::"
        "test_ps_tasks_that_move_one_after_the_other_find_each_other_and_are_found",
    ),
    "End the old one, or\ncorrect the index": (
        "contract/test_cluster_services.py::test_a_task_that_is_taken_is_not_given_to_another_process",
    ),
}
"""Advice in the sentences of the page, which nothing finds when it is new."""

_GIVEN_UP: Final = "integration/test_failover.py::test_a_state_that_is_lost_is_given_up_only_by_the_operator"
_FILES: Final = "unit/ps_server/coordination/test_file_store.py"
_SETTINGS: Final = "unit/ps_server/replication/test_pair_settings.py"
_ETCD: Final = "integration/test_etcd_store.py"
_REFUSED: Final = f"{_ETCD}::test_a_refusal_is_told_at_once"
_DISK_FAILS: Final = f"{_FILES}::test_a_disk_that_fails_is_named_and_nothing_was_written"
_ALL_BEGIN_AGAIN: Final = (
    "integration/test_operations.py::test_without_the_data_of_a_coordinator_all_processes_begin_again"
)
_PUT_BACK: Final = "integration/test_operations.py::test_data_of_a_coordinator_are_put_back"

LOGGED: Final = {
    # replication
    "it had not become its backup; started again, it can become one": (
        "property/test_failover_with_two_faults.py::test_a_whole_pair_survives_every_two_faults",
    ),
    "the primary goes on without it, in epoch": ("integration/test_failover.py::test_the_operator_promotes_a_backup",),
    "answers nobody until the store's data are put back": (
        "unit/ps_server/replication/test_decisions.py::test_one_that_the_register_does_not_name_answers_nobody",
        _PUT_BACK,
    ),
    "has had other changes of": (
        "unit/ps_server/replication/test_register.py::"
        "test_a_store_in_which_others_are_always_first_is_asked_a_few_times_only",
    ),
    "is being handed over to": (
        "integration/test_failover.py::test_a_rolling_restart_loses_no_primary_and_no_update",
        "unit/ps_server/replication/test_replica.py::"
        "test_a_primary_answers_nobody_as_long_as_it_does_not_know_whether_it_has_handed_over",
    ),
    "it has no backup, and {} has not confirmed": (
        "integration/test_operations.py::test_a_primary_alone_goes_on_when_its_coordinator_is_back",
    ),
    "no process has been heard of for {} s that has the state": (
        _GIVEN_UP,
        "integration/test_operations.py::test_a_process_that_has_the_state_is_reached_again",
    ),
    "its backup, {}, has not been heard of": (
        "integration/test_replication.py::test_updates_wait_for_a_backup_that_is_gone_until_the_task_goes_on_alone",
    ),
    "this process is catching up with the primary of": (
        "unit/ps_server/replication/test_replica.py::"
        "test_a_process_whose_primary_died_before_it_sent_any_state_can_be_promoted_with_loss",
    ),
    "Promote the one that has, or give up the state": (
        "unit/ps_server/replication/test_replica.py::test_the_operator_gives_up_a_state_only_if_he_says_so",
    ),
    "Ask the other ps tasks for the address of": (
        "integration/test_failover.py::test_workers_new_and_old_go_on_after_every_pair_has_failed_over",
    ),
    "but this process has state of epoch {} on its disk. Put the store's data back": (_EMPTIED,),
    ", put the coordination store's data back, or go on with the newest state": (_EMPTIED,),
    "this process is not in the pair yet": (
        "unit/ps_server/replication/test_replica.py::"
        "test_only_one_of_which_nobody_knows_whether_it_has_the_newest_state_can_be_told_to_go_on_with_it",
    ),
    "started again, it sets its state of epoch {} aside": (
        "integration/test_kept_pairs.py::test_one_that_is_killed_comes_back_and_then_all_are",
    ),
    "it says which process of a pair the state belongs to. Put back a copy": (
        "unit/ps_server/replication/test_member.py::test_a_damaged_note_is_refused",
    ),
    "is not the backup of {} any more; ask the primary": (
        "unit/ps_server/replication/test_backup_reads.py::"
        "test_it_is_not_read_any_more_once_it_leaves_or_asks_to_take_over",
    ),
    "and has not heard of the primary recently enough": (
        "unit/ps_server/replication/test_backup_reads.py::test_it_is_read_while_the_primary_waits_for_it",
    ),
    "start both processes with the same": (f"{_SETTINGS}::test_what_differs_is_named_with_who_has_what",),
    "start {} with at least as much": (f"{_SETTINGS}::test_a_backup_may_have_more_memory_but_not_less",),
    "and {} has {}: start both with the same": (
        f"{_SETTINGS}::test_a_backup_may_have_functions_that_its_primary_lacks_but_not_lack_them",
    ),
    # etcd
    "put its data back. {}": (_PUT_BACK, f"{_ETCD}::test_an_etcd_that_was_begun_anew_is_refused_until_it_is_back"),
    "point all processes of the cluster at the same etcd": (
        f"{_ETCD}::test_endpoints_of_different_clusters_are_refused",
    ),
    "check that this etcd asks for no user": (_REFUSED,),
    "make room in etcd": (_REFUSED,),
    "check that the address is that of an etcd": (_REFUSED,),
    "check that etcd runs, has a quorum": (
        "chaos/test_coordination.py::test_a_stopped_etcd_is_an_error_and_serves_when_it_goes_on",
    ),
    # files
    "it follows no links; put a directory": (f"{_FILES}::test_links_are_not_followed",),
    "put a directory in its place": (_DISK_FAILS,),
    "mount the disk so that it may be written to": (_DISK_FAILS,),
    "give the user of the ps tasks the right": (_DISK_FAILS,),
    "use a local file system that has hard links": (_DISK_FAILS,),
    "put the directory back. {}": (
        _PUT_BACK,
        f"{_FILES}::test_a_directory_that_was_removed_is_not_made_again_and_one_that_is_put_back_serves",
    ),
    "put its files back. {}": (f"{_FILES}::test_values_that_were_removed_are_missed",),
    "put a copy of its directory back. {}": (f"{_FILES}::test_a_damaged_value_is_refused_until_it_is_whole_again",),
    "put a copy of it back. {}": (f"{_FILES}::test_a_damaged_identity_is_refused_until_it_is_whole_again",),
    "end all processes that have used it and start them again": (_ALL_BEGIN_AGAIN,),
    "end all processes that use it, remove its directory": (_ALL_BEGIN_AGAIN,),
    "give an empty directory; or, if it was removed by mistake": (
        f"{_FILES}::test_values_without_an_identity_are_not_taken_for_a_new_store",
    ),
    "give a directory of the ps tasks' user alone": (
        f"{_FILES}::test_a_directory_that_others_may_write_to_is_refused",
    ),
    "use that version": (f"{_FILES}::test_a_store_of_a_newer_version_is_refused",),
    # shardscope
    "wait until the pair is complete (`shardscope health --ready`)": (
        "integration/test_failover.py::test_the_operator_promotes_a_backup",
    ),
    ", start the process again that has the state": (_GIVEN_UP,),
    "is no ps task; give one as in ps:1": ("integration/test_failover.py::test_the_operator_promotes_a_backup",),
    "is known to be the primary now; try again": (
        "unit/ps_cluster/inspection/test_queries.py::test_a_pair_without_a_primary_is_an_error_and_nobody_is_asked",
    ),
    "give the cluster with its backups": (
        "unit/ps_cluster/inspection/test_queries.py::test_a_backup_alone_does_not_stand_for_its_task",
    ),
    "give the addresses in the order": ("integration/test_cli.py::test_addresses_in_another_order_are_an_error",),
}

SAYING: Final = [
    *sorted((ROOT / "ps_server/replication").glob("*.py")),
    *sorted((ROOT / "ps_server/coordination").glob("*.py")),
    ROOT / "ps_cluster/cli/promote.py",
    ROOT / "ps_cluster/inspection/queries.py",
]
_TOLD: Final = re.compile(
    r"(^|[;.:,] |\bor |\band )(put|start|started|promote|end all|give|make|check|point|wait|try|ask|use|mount|move)\b"
    r"|--accept-loss|calls wait|put back",
    re.IGNORECASE,
)
_NO_ADVICE: Final = re.compile(r"^(use it for less$|\{\} is no key of a coordination store)")
"""For who calls a store, not for operators."""


def documented() -> Iterator[str]:
    """Blocks of commands, and rows of tables that say what to do."""
    yield from re.findall(r"^```(?:sh|yaml)\n(.*?)^```$", OPERATIONS, re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", OPERATIONS, re.MULTILINE):
        head, _, *rows = table.splitlines()
        if head.endswith(("| do |", "| what to do |")):
            yield from rows


def logged() -> Iterator[str]:
    """Texts of the code that tell somebody to do something; what is put into them is ``{}``."""
    for path in SAYING:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = {id(each) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for each in node.values}
        parts |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            text = "" if id(node) in parts else _text(node)
            if " " in text and _TOLD.search(text) and not _NO_ADVICE.search(text):
                yield text


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(each) if isinstance(each, ast.Constant) else "{}" for each in node.values)
    return ""


@pytest.mark.parametrize(("found", "known"), [(documented, DOCUMENTED), (logged, LOGGED)], ids=["page", "log"])
def test_all_advice_is_listed(found: Callable[[], Iterator[str]], known: Collection[str]) -> None:
    advice = list(found())
    assert len(advice) > 20
    assert [each for each in advice if not any(text in each for text in known)] == [], "advice without a test"
    assert [text for text in known if not any(text in each for each in advice)] == [], "advice that is not given"


@pytest.mark.parametrize("text", WRITTEN)
def test_advice_in_sentences_is_there(text: str) -> None:
    assert text in OPERATIONS


def test_every_test_that_is_named_is_there() -> None:
    named = {name for known in (DOCUMENTED, WRITTEN, LOGGED) for names in known.values() for name in names}
    missing = []
    for name in sorted(named):
        path, _, function = name.partition("::")
        file = ROOT / "tests" / path
        if not file.exists() or f"def {function}(" not in file.read_text(encoding="utf-8"):
            missing.append(name)
    assert missing == []
