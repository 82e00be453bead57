"""How values and rows are updated: pure functions of arrays. Imports memory alone."""
