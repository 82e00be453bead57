"""The memory of a ps task: its budget, and the pools that arrays come from. Imports no other room."""
