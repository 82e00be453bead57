"""What training loops share: the global step."""
