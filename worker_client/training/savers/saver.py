"""``tf.train.Saver``: saves variables of a session, and restores them."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ps_protocol.errors import InvalidArgumentError, NotFoundError, ShardscopeError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.tensor_files.checkpoint_file import local_path
from ps_protocol.tensorflow_files.state_file import STATE_FILE_NAME
from worker_client.checkpoints.state import update_checkpoint_state
from worker_client.graph.default_graph import get_default_graph
from worker_client.sessions.session import Session
from worker_client.training.global_step import global_step as step_of
from worker_client.training.savers.formats import FORMATS, CheckpointFormat
from worker_client.training.savers.kept_checkpoints import FOREVER, KeptCheckpoints
from worker_client.training.savers.saved_variables import all_saveable, saved_variables
from worker_client.training.savers.saver_graph import SaverDef, SaverOptions, add_saver
from worker_client.values.left_out import SaysWhatIsLeftOut

_LOG = logging.getLogger("tensorflow")
_META: Final = "meta"


class Saver(SaysWhatIsLeftOut):
    """Saves variables of a deferred graph to files, and restores them.

    It adds operations to the default graph. Values go from the ps tasks to the process that calls ``save``, which
    writes them; ``restore`` reads them there. Neither holds more of them at a time than a batch and the largest part.

    ``save`` leaves whole checkpoints only, also when it is interrupted: the data, then the index, then the file
    "checkpoint" get their names when they are on disk. ``restore`` changes nothing unless all variables are in the
    checkpoint, with their shapes and dtypes.

    Args:
        var_list: The variables, or a mapping of the names in checkpoints to variables; all global ones if not given.
            A partitioned variable is saved so that it can be restored whole, or in other parts.
        reshape: Whether tensors of another shape with as many elements may be restored.
        sharded: Whether each ps task gets a data file of its own.
        max_to_keep: How many of the newest checkpoints are kept; 0 or None for all.
        keep_checkpoint_every_n_hours: One in so many hours is kept for good.
        name: Of the scope of its operations; "save" if not given.
        restore_sequentially: Ignored; values are restored in batches.
        saver_def: Of another saver, whose operations are in the graph; instead of ``var_list``.
        builder: Must be None.
        defer_build: Whether its operations are added by ``build()``, when all variables are there.
        allow_empty: Whether there may be no variables; then it does nothing.
        write_version: Must be ``SaverDef.V2``; files of the older version are restored too.
        pad_step_number: Whether steps in the names of files have eight digits.
        save_relative_paths: Whether the file "checkpoint" holds paths that stay true when its directory is moved.
        filename: Where its operations save if they are run without a path.
        write_format: In which form it saves: "tensorflow" for TensorFlow's own files; "shardscope" for that of
            ``ss.save``, which ``ss.restore`` takes too. Either is restored, whichever is written.

    Raises:
        TypeError: ``var_list`` holds something else than variables.
        ValueError: There are no variables, two have one name, or one has two; or an argument is not allowed.
        NotImplementedError: A builder is given, or files of the older version are to be written.
        RuntimeError: The default graph is a connection's own, in which everything happens at once.
    """

    public_name = "Saver"

    def __init__(
        self,
        var_list: Any = None,
        reshape: bool = False,
        sharded: bool = False,
        max_to_keep: int | None = 5,
        keep_checkpoint_every_n_hours: float = 10000.0,
        name: str | None = None,
        restore_sequentially: bool = False,
        saver_def: SaverDef | None = None,
        builder: Any = None,
        defer_build: bool = False,
        allow_empty: bool = False,
        write_version: int = SaverDef.V2,
        pad_step_number: bool = False,
        save_relative_paths: bool = False,
        filename: str | None = None,
        *,
        write_format: str = "tensorflow",
    ):
        del restore_sequentially
        if defer_build and var_list:
            raise ValueError(
                "If `var_list` is provided then build cannot be deferred. "
                "Either set defer_build=False or var_list=None."
            )
        if builder is not None:
            raise NotImplementedError("Saver(builder=...): savers build their own operations; leave it out")
        if write_version != SaverDef.V2:
            raise NotImplementedError(
                "Saver(write_version=SaverDef.V1): only files of version 2 are written; leave it out, files of version "
                "1 are restored all the same"
            )
        self._var_list = var_list
        self._options = SaverOptions(_format(write_format), sharded, reshape, filename)
        self._max_to_keep = max_to_keep or 0
        self._keep_every_n_hours = keep_checkpoint_every_n_hours
        self._name = name
        self._allow_empty = allow_empty
        self._pad_step_number = pad_step_number
        self._save_relative_paths = save_relative_paths
        self._is_built = self._is_empty = False
        self._kept = KeptCheckpoints(
            self._max_to_keep, keep_checkpoint_every_n_hours, self._options.checkpoint_format.remove
        )
        self.saver_def: Any = saver_def
        if not defer_build:
            self.build()
        elif saver_def is not None:
            _check_definition(saver_def)

    def build(self) -> None:
        """Adds its operations to the default graph, unless that is done already."""
        if self._is_built:
            return
        if self.saver_def is None:
            graph = get_default_graph()
            if not graph.deferred:
                raise RuntimeError("Savers need a deferred graph; build in `with Graph().as_default():`")
            chosen = all_saveable(graph) if self._var_list is None else self._var_list
            if not isinstance(chosen, int | str) and not chosen:
                if not self._allow_empty:
                    raise ValueError("No variables to save")
                self._is_built = self._is_empty = True
                return
            made = add_saver(graph, saved_variables(chosen), self._options, self._name)
            self.saver_def = dataclasses.replace(
                made,
                max_to_keep=self._max_to_keep,
                keep_checkpoint_every_n_hours=self._keep_every_n_hours,
                version=SaverDef.V2,
            )
        elif isinstance(self.saver_def, SaverDef) and self._name:
            names: dict[str, Any] = {field: f"{self._name}/{getattr(self.saver_def, field)}" for field in _NAMES}
            self.saver_def = dataclasses.replace(self.saver_def, **names)
        _check_definition(self.saver_def)
        self._kept = KeptCheckpoints(
            self.saver_def.max_to_keep,
            self.saver_def.keep_checkpoint_every_n_hours,
            self._options.checkpoint_format.remove,
        )
        self._is_built = True

    # -- what it is made of ---------------------------------------------------------------------

    def as_saver_def(self) -> Any:
        """Returns the names of its operations, and what it keeps; None if it is empty."""
        return self.saver_def

    def to_proto(self, export_scope: str | None = None) -> Any:
        """Returns what ``as_saver_def`` does.

        Args:
            export_scope: A scope; then it is the names inside that, and None if its operations are not there.
        """
        if export_scope is None:
            return self.saver_def
        inside = {field: _inside(getattr(self.saver_def, field), export_scope) for field in _NAMES}
        return None if None in inside.values() else dataclasses.replace(self.saver_def, **inside)

    @staticmethod
    def from_proto(saver_def: SaverDef, import_scope: str | None = None) -> Saver:
        """Returns a saver of operations that are in the graph already.

        Args:
            saver_def: Their names.
            import_scope: The scope in which they are, if the names are those inside it.
        """
        return Saver(saver_def=saver_def, name=import_scope)

    # -- which checkpoints there are ------------------------------------------------------------

    @property
    def last_checkpoints(self) -> list[str]:
        """The paths of the checkpoints that are not deleted, the oldest first."""
        return self._kept.paths

    def set_last_checkpoints(self, last_checkpoints: list[str]) -> None:
        """Says which checkpoints there are; AssertionError if it is no list."""
        self.set_last_checkpoints_with_time(_list(last_checkpoints) and [(path, FOREVER) for path in last_checkpoints])

    def set_last_checkpoints_with_time(self, last_checkpoints_with_time: list[tuple[str, float]]) -> None:
        """Says which checkpoints there are, and when each was written; AssertionError if it is no list."""
        self._kept.replace(_list(last_checkpoints_with_time))

    def recover_last_checkpoints(self, checkpoint_paths: Sequence[str]) -> None:
        """Says which checkpoints an earlier process has left; those that are not there do not count."""
        found = [(path, self._options.checkpoint_format.written_s(path)) for path in checkpoint_paths]
        self.set_last_checkpoints_with_time([(path, time_s) for path, time_s in found if time_s is not None])

    # -- saving and restoring -------------------------------------------------------------------

    def save(
        self,
        sess: Session,
        save_path: str | os.PathLike[str],
        global_step: Any = None,
        latest_filename: str | None = None,
        meta_graph_suffix: str = _META,
        write_meta_graph: bool = True,
        write_state: bool = True,
        strip_default_attrs: bool = False,
        save_debug_info: bool = False,
    ) -> str | None:
        """Saves the present values.

        Args:
            sess: Where the variables are.
            save_path: What the files are called; the directory is made if it is not there. Behind a slash at the end
                they have no name, as TensorFlow's: "run/" stands for "run/.index", and with a step for "run/-7.index".
            global_step: A number, or a tensor or a variable with one, that is put behind the name.
            latest_filename: Of the file that says which checkpoints there are; "checkpoint" if not given.
            meta_graph_suffix: Of files of TensorFlow's that are deleted together with a checkpoint.
            write_meta_graph: Ignored: no graph is written.
            write_state: Whether the file "checkpoint" is to name it, and old ones are to be deleted.
            strip_default_attrs: Ignored, as the next.
            save_debug_info: See there.

        Returns:
            The path of the checkpoint, for ``restore``; None if there is nothing to save.

        Raises:
            RuntimeError: ``build()`` was not called.
            ValueError: ``latest_filename`` has a directory, or is the name of the checkpoint; or ``save_path`` is
                empty, or its directory cannot be made.
            TypeError: ``sess`` is no session.
            FailedPreconditionError: A variable has no value.
            ShardscopeError: A ps task did not answer, or a file could not be written. What was there before still is.
        """
        del write_meta_graph, strip_default_attrs, save_debug_info
        if not self._is_built:
            raise RuntimeError("`build()` should be called before save if defer_build==True")
        state_name = STATE_FILE_NAME if latest_filename is None else latest_filename
        if Path(state_name).name != state_name:
            raise ValueError("'latest_filename' must not contain path components")
        path = os.fsdecode(save_path)
        local_path(path)  # refuses URLs of other places
        if global_step is not None:
            step = int(global_step) if isinstance(global_step, int | np.integer) else step_of(sess, global_step)
            path = f"{path}-{step:08d}" if self._pad_step_number else f"{path}-{step}"
        elif not path:
            raise ValueError("no path specified: save_path is empty; give what the files are to be called")
        elif path.rpartition("/")[2] == state_name and not self._options.sharded:
            raise ValueError(f"'latest_filename' collides with 'save_path': '{state_name}' and '{path}'")
        if not isinstance(sess, Session):
            raise TypeError(f"'sess' must be a Session; {sess!r}")
        if self._is_empty:
            return None
        path = self._written(sess, path)
        if write_state:
            self._kept.add(path)
            self._write_state(os.path.dirname(os.fsdecode(save_path)), path, state_name)  # noqa: PTH120 - "" stays that
            self._kept.delete_one(meta_graph_suffix)
        return path

    def restore(self, sess: Session, save_path: str | os.PathLike[str] | None) -> None:
        """Gives all its variables the values of a checkpoint; they need not be initialised before.

        Args:
            sess: Where the variables are.
            save_path: What ``save`` has returned, or ``latest_checkpoint``; or a folder of checkpoints, for the newest.

        Raises:
            ValueError: It is None, or there is no checkpoint.
            NotFoundError: A variable is not in the checkpoint.
            InvalidArgumentError: A variable has another shape or dtype there.
            DataLossError: A file is damaged.
            ShardscopeError: A ps task did not answer.
        """
        if self._is_empty:
            return
        if save_path is None:
            raise ValueError("Can't load save_path when it is None.")
        path = os.fsdecode(save_path)
        if not self._options.checkpoint_format.exists(path):
            raise ValueError(f"The passed save_path is not a valid checkpoint: {path}")
        if not self._is_built:
            raise RuntimeError("`build()` should be called before restore if defer_build==True")
        _LOG.info("Restoring parameters from %s", path)
        try:
            sess.run(self.saver_def.restore_op_name, {self.saver_def.filename_tensor_name: path})
        except NotFoundError as error:
            raise_interrupt(error)
            raise _restore_failed(error, "a Variable name or other graph key that is missing") from error
        except InvalidArgumentError as error:
            raise_interrupt(error)
            raise _restore_failed(error, "a mismatch between the current graph and the graph") from error

    def _written(self, sess: Session, path: str) -> str:
        try:
            written: bytes = sess.run(self.saver_def.save_tensor_name, {self.saver_def.filename_tensor_name: path})
        except NotFoundError as error:
            raise_interrupt(error)
            if Path(local_path(path)).parent.is_dir():
                raise
            raise ValueError(f"Parent directory of {path} doesn't exist, can't save.") from error
        return os.fsdecode(written)

    def _write_state(self, directory: str, path: str, state_name: str) -> None:
        newest, *paths = [
            os.path.relpath(each, directory) if self._save_relative_paths and Path(each).is_absolute() else each
            for each in (path, *self.last_checkpoints)
        ]
        update_checkpoint_state(directory, newest, paths, state_name)


_NAMES: Final = ("filename_tensor_name", "save_tensor_name", "restore_op_name")


def _format(name: str) -> CheckpointFormat:
    if name not in FORMATS:
        raise ValueError(
            f"no checkpoints are written in the form {name!r}; write_format is one of {', '.join(FORMATS)}"
        )
    return FORMATS[name]


def _check_definition(saver_def: object) -> None:
    if not isinstance(saver_def, SaverDef):
        raise ValueError(f"saver_def must be a SaverDef: {saver_def!r}")  # noqa: TRY004 - as TensorFlow
    for field in ("save_tensor_name", "restore_op_name"):
        if not getattr(saver_def, field):
            raise ValueError(f"saver_def must specify the {field}: {saver_def}")


def _inside(name: str, scope: str) -> str | None:
    return name.removeprefix(f"{scope}/") if name.startswith(scope) else None


def _list(given: Any) -> Any:
    if not isinstance(given, list):
        raise AssertionError(f"the last checkpoints are given as a list, not as {given!r}")  # noqa: TRY004 - as TensorFlow
    return given


def _restore_failed(error: ShardscopeError, why: str) -> ShardscopeError:
    kind = NotFoundError if isinstance(error, NotFoundError) else InvalidArgumentError
    return kind(
        f"Restoring from checkpoint failed. This is most likely due to {why} from the checkpoint. Please ensure that "
        f"you have not altered the graph expected based on the checkpoint. Original error:\n\n{error.message}",
        variable=error.variable,
        task=error.task,
        op=error.op,
    )
