"""Every change of state as a record, in one order, for the sinks: disk and backup. Imports no disk, no transport."""
