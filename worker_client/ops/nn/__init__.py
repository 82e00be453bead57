"""TensorFlow 1's functions of neural networks that look at images: convolutions, pools and normalisation."""
