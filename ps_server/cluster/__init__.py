"""What ps 0 knows of the cluster: placements, members, leases, addresses. Must not import batches or the log."""
