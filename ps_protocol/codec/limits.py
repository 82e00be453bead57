"""How large messages, and the pieces of large tensors, may be on any transport."""

from __future__ import annotations

CHUNK_SIZE_BYTES = 1024 * 1024
"""Most bytes of one data frame on a stream. Large tensors travel fastest at about this size."""

UNARY_LIMIT_BYTES = 2 * 1024 * 1024
"""Most bytes of tensors, together, that go in one message; more go on a stream."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Most bytes of a header, and of a message that a client gets. A header that declares a hundred thousand variables
fits, and so does a listing of them. No peer can make this process take gigabytes."""

MAX_TAKEN_BYTES = 4 * 1024 * 1024
"""Most bytes of one message that a ps takes over gRPC. gRPC copies a message with the interpreter's lock held, about a
millisecond for each MiB, in which a ps answers nobody. Larger headers come in parts."""

MAX_OPERATIONS = 256 * 1024
"""Most operations of one batch. Those of a hundred thousand variables fit; decoding so many takes two seconds."""
