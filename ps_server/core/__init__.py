"""One ps task as plain typed Python: what every transport calls. Imports no transport, no disk, no replication."""
