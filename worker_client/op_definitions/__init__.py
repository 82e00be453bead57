"""What TensorFlow's definitions say of each type of operation: its inputs, attributes, dtypes and shapes."""
