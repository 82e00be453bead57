"""TensorFlow 1's optimizers: gradients, slots, and steps that a ps carries out. Imports no learning rates."""
