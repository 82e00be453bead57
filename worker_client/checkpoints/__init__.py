"""Saves and restores the variables of a cluster, and reads TensorFlow's files."""
