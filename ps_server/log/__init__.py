"""Each change as a record, in one order, for the sinks. Must not import core, durability, replication or transport."""
