"""How workers train together: policies, what their group is told and answers, as JSON. Imports no other room."""
