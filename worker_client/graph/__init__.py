"""Names, scopes, devices, operations and collections of a graph. Imports no connection and no variables."""
