"""Names of the collections that TensorFlow 1 code expects a graph to have."""

from __future__ import annotations

from typing import Final


class GraphKeys:
    """The standard keys of a graph's collections.

    A variable made with ``get_variable`` is in ``GLOBAL_VARIABLES``, unless it was given collections of its own, and
    in ``TRAINABLE_VARIABLES`` if it is trainable; one made with ``get_local_variable`` is in ``LOCAL_VARIABLES``.
    """

    GLOBAL_VARIABLES: Final = "variables"
    VARIABLES: Final = "variables"
    """Older name of ``GLOBAL_VARIABLES``."""
    LOCAL_VARIABLES: Final = "local_variables"
    METRIC_VARIABLES: Final = "metric_variables"
    MODEL_VARIABLES: Final = "model_variables"
    TRAINABLE_VARIABLES: Final = "trainable_variables"
    MOVING_AVERAGE_VARIABLES: Final = "moving_average_variables"
    CONCATENATED_VARIABLES: Final = "concatenated_variables"

    SUMMARIES: Final = "summaries"
    SUMMARY_OP: Final = "summary_op"
    QUEUE_RUNNERS: Final = "queue_runners"
    TABLE_INITIALIZERS: Final = "table_initializer"
    ASSET_FILEPATHS: Final = "asset_filepaths"
    SAVERS: Final = "savers"
    SAVEABLE_OBJECTS: Final = "saveable_objects"

    WEIGHTS: Final = "weights"
    BIASES: Final = "biases"
    ACTIVATIONS: Final = "activations"
    UPDATE_OPS: Final = "update_ops"
    LOSSES: Final = "losses"
    REGULARIZATION_LOSSES: Final = "regularization_losses"

    INIT_OP: Final = "init_op"
    LOCAL_INIT_OP: Final = "local_init_op"
    READY_OP: Final = "ready_op"
    READY_FOR_LOCAL_INIT_OP: Final = "ready_for_local_init_op"
    TRAIN_OP: Final = "train_op"
    GLOBAL_STEP: Final = "global_step"
    EVAL_STEP: Final = "eval_step"

    RESOURCES: Final = "resources"
    LOCAL_RESOURCES: Final = "local_resources"

    COND_CONTEXT: Final = "cond_context"
    WHILE_CONTEXT: Final = "while_context"
