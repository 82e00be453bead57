"""One ps task as plain typed Python, for every transport. Must not import durability, replication or a transport."""
