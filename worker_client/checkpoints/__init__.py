"""Saves a whole cluster and restores it, and reads and writes other forms. Imports no variables, scopes or sessions."""
