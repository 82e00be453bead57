"""How updates change values and rows: pure functions of arrays. Must not import a room but memory."""
