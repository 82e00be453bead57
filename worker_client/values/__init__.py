"""Dtypes, shapes, versions and arrays, as callers pass them and as they travel. Imports no other room."""
