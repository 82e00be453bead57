"""The logger of training loops: that of ``tf.logging``, whose level programs choose."""

from __future__ import annotations

import logging
from typing import Final

LOG: Final = logging.getLogger("tensorflow")
