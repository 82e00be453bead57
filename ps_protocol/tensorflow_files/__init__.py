"""TensorFlow's checkpoint files, read and written without TensorFlow. Of the other rooms it imports only ``codec``."""
