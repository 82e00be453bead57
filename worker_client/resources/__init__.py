"""TensorFlow 1's accumulators and queues in graphs: operations on objects that workers share. Imports no sessions."""
