"""First values of variables, from their full names and the job's seed alone. Imports no codec."""
