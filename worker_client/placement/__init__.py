"""Chooses the ps task of a variable and declares it there. Imports no variables, scopes or sessions."""
