"""TensorFlow's checkpoint files, read and written without TensorFlow. Imports only ``tensor_files`` and ``codec``."""
