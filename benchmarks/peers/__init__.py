"""Other systems as contestants, each run by the interpreter of its own environment: NumPy is all they share with us."""
