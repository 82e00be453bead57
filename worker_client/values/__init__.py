"""Conversions between what callers pass and what travels: dtypes, shapes, arrays, versions. Imports no other room."""
