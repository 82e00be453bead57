"""What a ps and its clients must agree on: messages, tensors, errors, initial values, cluster specs."""
