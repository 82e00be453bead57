"""What happens to shared objects: small state machines, pure functions of JSON and arrays. Imports only rounds."""
