"""What ps 0 knows of the cluster: placements, members, leases, addresses. Imports no other room."""
