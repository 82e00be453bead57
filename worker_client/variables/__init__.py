"""Variables that act at once, whole and partitioned. Imports no deferred variables, scopes or sessions."""
