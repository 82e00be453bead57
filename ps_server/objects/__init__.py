"""What happens to shared objects: small state machines, pure functions of JSON. Must not import a room but rounds."""
