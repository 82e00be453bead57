"""The comparison with TensorFlow, torch RPC and Ray: contestants' rounds, targets, tables."""
