"""What programs of TensorFlow 1 have around their graphs: options, logging, files, sessions' configurations."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import worker_client.compat.v1 as tf
from worker_client.compat.v1 import flags as flags_module


class TestFlags:
    @pytest.fixture
    def values(self) -> Any:
        values = tf.flags.FlagValues()
        given: dict[str, Any] = {"flag_values": values}
        tf.flags.DEFINE_string("ps_hosts", "a:1", "hosts", **given)
        tf.flags.DEFINE_integer("task_index", 0, "index", lower_bound=0, **given)
        tf.flags.DEFINE_float("rate", 0.5, "rate", **given)
        tf.flags.DEFINE_bool("sync", False, "whether", **given)
        tf.flags.DEFINE_boolean("shuffle", True, "whether", **given)
        tf.flags.DEFINE_enum("job", None, ["ps", "worker"], "job", **given)
        tf.flags.DEFINE_list("layers", "a,b", "names", **given)
        tf.flags.DEFINE_multi_integer("size", [3], "sizes", **given)
        return values

    def test_defaults(self, values: Any) -> None:
        assert values(["program"]) == ["program"]
        assert values.flag_values_dict() == {
            "ps_hosts": "a:1",
            "task_index": 0,
            "rate": 0.5,
            "sync": False,
            "shuffle": True,
            "job": None,
            "layers": ["a", "b"],
            "size": [3],
        }

    def test_all_ways_of_writing(self, values: Any) -> None:
        line = (
            "program --ps_hosts=b:2,c:3 -task_index 4 in --sync --noshuffle --job worker --size=1 --size 2 -- --rate=9"
        )
        assert values(line.split()) == ["program", "in", "--rate=9"]
        assert (values.ps_hosts, values.task_index, values.sync, values.shuffle) == ("b:2,c:3", 4, True, False)
        assert (values.job, values.size, values.rate, values["job"].present) == ("worker", [1, 2], 0.5, True)

    @pytest.mark.parametrize(
        ("argument", "error"),
        [
            ("--task_index=x", flags_module.IllegalFlagValueError),
            ("--task_index=-1", flags_module.IllegalFlagValueError),
            ("--job=chief", flags_module.IllegalFlagValueError),
            ("--sync=perhaps", flags_module.IllegalFlagValueError),
            ("--rate", flags_module.Error),
            ("--unknown=1", flags_module.UnrecognizedFlagError),
        ],
    )
    def test_what_is_wrong_names_the_option(self, values: Any, argument: str, error: type[Exception]) -> None:
        with pytest.raises(error, match=argument.partition("=")[0].lstrip("-")):
            values(["program", argument])

    def test_those_of_others_can_be_left_to_them(self, values: Any) -> None:
        assert values(["program", "--unknown=1", "--rate=2"], known_only=True) == ["program", "--unknown=1"]
        assert values.rate == 2.0

    def test_the_command_line_is_read_when_an_option_is_first_asked_for(self) -> None:
        program = """
            import sys
            import worker_client.compat.v1 as tf

            sys.argv = ["program", "--rate=3", "--others"]
            tf.flags.DEFINE_float("rate", 0.5, "rate")
            tf.flags.DEFINE_string(flag_name="name", default_value="a", docstring="older names")
            flags = tf.app.flags.FLAGS
            assert not flags.is_parsed()
            assert (flags.rate, flags.name, "rate" in flags, flags["rate"].present) == (3.0, "a", True, 1)
            flags.rate = 4.0
            assert flags.rate == 4.0
            assert flags.find_module_defining_flag("name") == sys.argv[0] == "program"
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=120)

    def test_required_ones_and_validators(self, values: Any) -> None:
        tf.flags.mark_flag_as_required("job", values)
        tf.flags.register_validator("rate", lambda rate: rate < 1, "too fast", values)
        with pytest.raises(tf.flags.IllegalFlagValueError, match=r"job must have a value"):
            values(["program"])
        with pytest.raises(tf.flags.IllegalFlagValueError, match=r"rate=2.0: too fast"):
            values(["program", "--job=ps", "--rate=2"])

    def test_names_are_there_once(self, values: Any) -> None:
        with pytest.raises(tf.flags.DuplicateFlagError, match="rate"):
            tf.flags.DEFINE_float("rate", 0.5, "again", flag_values=values)
        tf.flags.DEFINE_alias("speed", "rate", values)
        values(["program", "--speed=2"])
        assert (values.rate, "speed" in values) == (2.0, True)
        with pytest.raises(AttributeError, match="nothing"):
            _ = values.nothing

    @pytest.mark.parametrize(
        ("argument", "code", "printed"),
        [
            ("--rate=2", 3, r"main\(\['program', 'rest'\]\) 2.0"),
            ("--unknown", 3, r"main\(\['program', '--unknown', 'rest'\]\) 0.5"),
            ("--rate=x", 1, r"flag --rate=x: could not convert"),
            ("--help", 1, r"--rate: speed"),
        ],
        ids=["rate", "unknown", "wrong", "help"],
    )
    def test_app_runs_main_with_what_is_no_option(self, argument: str, code: int, printed: str) -> None:
        program = """
            import sys
            import worker_client.compat.v1 as tf

            tf.app.flags.DEFINE_float("rate", 0.5, "speed")

            def main(argv):
                print(f"main({argv})", tf.flags.FLAGS.rate)
                return 3

            tf.app.run(argv=["program", sys.argv[1], "rest"])
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), argument],
            capture_output=True,
            check=False,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stderr
        assert re.search(printed, done.stdout + done.stderr)


class TestGFile:
    def test_a_file_is_written_and_read(self, tmp_path: Path) -> None:
        name = str(tmp_path / "deep" / "er" / "file")
        tf.gfile.MakeDirs(str(tmp_path / "deep" / "er"))
        with tf.gfile.GFile(name, "w") as file:
            file.write("größe\nzwei\n")
        assert tf.gfile.Open(name).size() == 13
        with tf.gfile.GFile(name) as file:
            assert file.readline() == "größe\n"
            assert list(file) == ["zwei\n"]
        with tf.gfile.FastGFile(name, "rb") as file:
            assert file.read(2) == b"gr"
        assert tf.gfile.ListDirectory(str(tmp_path / "deep")) == ["er"]
        assert [files for _, _, files in tf.gfile.Walk(str(tmp_path))] == [[], [], ["file"]]
        assert tf.gfile.Glob(f"{tmp_path}/*/*/f*") == [name]

    def test_files_are_moved_copied_and_deleted(self, tmp_path: Path) -> None:
        one, two = str(tmp_path / "one"), str(tmp_path / "two")
        Path(one).write_text("1", encoding="utf-8")
        tf.gfile.Copy(one, two)
        with pytest.raises(tf.errors.AlreadyExistsError, match="two"):
            tf.gfile.Rename(one, two)
        tf.gfile.Rename(one, two, overwrite=True)
        assert (tf.gfile.Exists(one), tf.gfile.Exists(two), tf.gfile.IsDirectory(two)) == (False, True, False)
        tf.gfile.Remove(two)
        tf.gfile.MkDir(one)
        tf.gfile.DeleteRecursively(one)
        assert not tf.gfile.Exists(one)

    @pytest.mark.parametrize("name", ["Remove", "ListDirectory", "Stat", "DeleteRecursively"])
    def test_what_is_missing_is_not_found(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(tf.errors.NotFoundError, match="missing"):
            getattr(tf.gfile, name)(str(tmp_path / "missing"))
        with pytest.raises(tf.errors.NotFoundError, match="missing"):
            tf.gfile.GFile(str(tmp_path / "missing")).read()


class TestLogging:
    def test_messages_have_levels_and_places(self, caplog: pytest.LogCaptureFixture) -> None:
        before = tf.logging.get_verbosity()
        try:
            tf.logging.set_verbosity(tf.logging.INFO)
            for log in (tf.logging.debug, tf.logging.info, tf.logging.warn, tf.logging.error, tf.logging.fatal):
                log("step %d", 3)
            for _ in range(5):
                tf.logging.log_first_n(tf.logging.INFO, "first", 2)
                tf.logging.log_every_n(tf.logging.INFO, "every", 3)
            tf.logging.log_if(tf.logging.INFO, "never", False)
        finally:
            tf.logging.set_verbosity(before)
        levels = [record.levelno for record in caplog.records if record.getMessage() == "step 3"]
        assert levels == [logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL]
        assert {Path(record.pathname).name for record in caplog.records} == {"test_programs.py"}
        messages = [record.getMessage() for record in caplog.records]
        assert (messages.count("first"), messages.count("every"), messages.count("never")) == (2, 2, 0)


class TestConfigurations:
    def test_fields_have_defaults_and_nested_ones_are_made(self) -> None:
        config = tf.ConfigProto(allow_soft_placement=True, device_count={"GPU": 0})
        assert (config.allow_soft_placement, config.log_device_placement, config.device_count) == (
            True,
            False,
            {"GPU": 0},
        )
        config.gpu_options.allow_growth = True
        config.gpu_options.experimental.whatever = 3
        config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_1
        assert config.gpu_options.experimental.whatever == 3
        assert not tf.ConfigProto().gpu_options.allow_growth
        copy = tf.ConfigProto()
        copy.CopyFrom(config)
        assert copy == config
        assert copy != tf.ConfigProto()
        assert repr(tf.ConfigProto(placement_period=2)) == "ConfigProto(placement_period=2)"

    def test_names_of_fields_are_checked(self) -> None:
        with pytest.raises(ValueError, match=r"allow_soft_placment.*allow_soft_placement"):
            tf.ConfigProto(allow_soft_placment=True)
        with pytest.raises(AttributeError, match="allow_grow"):
            tf.GPUOptions().allow_grow = True

    def test_sessions_take_them(self) -> None:
        with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto()) as session:
            options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
            assert session.run(tf.constant(1), options=options, run_metadata=tf.RunMetadata()) == 1


def test_whether_everything_happens_at_once() -> None:
    tf.disable_eager_execution()
    assert not tf.executing_eagerly()
