"""Small values that several processes agree on: who is the primary. Must not import another room of the ps."""
