"""Which ps task a variable goes to, and declaring it there. Imports graph and connection."""
