"""Threads of a ps task that nobody waits for, and that nothing ends. Must not import another room of the ps."""
