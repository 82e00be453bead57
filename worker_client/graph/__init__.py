"""Names, scopes of names and devices, operations and collections of a graph. Imports no variables and no session."""
