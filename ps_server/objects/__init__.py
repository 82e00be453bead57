"""What happens to shared objects: small state machines, pure functions of JSON and arrays. Must not import a room."""
