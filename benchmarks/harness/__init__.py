"""What every benchmark shares: command line, workloads, processes, samples, tables."""
