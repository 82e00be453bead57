"""The variables of one ps task, their locks and versions. Must not import a room but rules and memory."""
