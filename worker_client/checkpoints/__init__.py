"""Saves a whole cluster and restores it, on any number of ps tasks. Imports no variables, scopes or sessions."""
