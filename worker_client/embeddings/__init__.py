"""Looks rows up by their ids, in whole and partitioned variables. Imports no training."""
