"""What is drawn on a terminal: lines of output, a live table. Imports no cluster."""
