"""How large the pieces may be in which messages and tensors travel, whatever carries them."""

from __future__ import annotations

CHUNK_SIZE_BYTES = 1024 * 1024
"""Most bytes of one data frame on a stream; the size at which large tensors pass fastest lies around it."""

UNARY_LIMIT_BYTES = 2 * 1024 * 1024
"""Most bytes of tensors, together, that go in one message; more go on a stream."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Most bytes of one message: far above ``UNARY_LIMIT_BYTES``, so that a header that declares a hundred thousand
variables, or a listing of them, still fits; low enough that no peer can make this process take gigabytes."""
