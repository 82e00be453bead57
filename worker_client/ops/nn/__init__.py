"""TensorFlow 1's convolutions, pools, normalisation and candidate samplers. No other module of ops imports it."""
