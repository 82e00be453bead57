"""The memory of a ps task: its budget, and the pools that arrays come from. Must not import another room of the ps."""
