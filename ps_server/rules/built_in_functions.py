"""The functions that every ps knows: the rules of optimizers, moving averages, and products."""

from __future__ import annotations

from typing import Final

from ps_server.rules.average_functions import AVERAGE_FUNCTIONS
from ps_server.rules.functions import Functions
from ps_server.rules.optimizer_functions import OPTIMIZER_FUNCTIONS
from ps_server.rules.scaling_functions import SCALING_FUNCTIONS

BUILT_IN_FUNCTIONS: Final = Functions({**OPTIMIZER_FUNCTIONS, **AVERAGE_FUNCTIONS, **SCALING_FUNCTIONS})
