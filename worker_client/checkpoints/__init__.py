"""Saves a whole cluster and restores it, and reads TensorFlow's files. Imports no variables, scopes or sessions."""
