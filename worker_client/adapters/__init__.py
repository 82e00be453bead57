"""Models of other libraries on the cluster: names, arrays, mismatches, steps. Imports no compat."""
