"""What a ps and its clients agree on: messages, tensors, errors, cluster specs. Imports no other package."""
