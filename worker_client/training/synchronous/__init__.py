"""TensorFlow 1's ``SyncReplicasOptimizer``: workers whose gradients are applied together, its hook, and who is live."""
