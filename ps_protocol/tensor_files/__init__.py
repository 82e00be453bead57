"""Tensors in files: one mapping for each form of checkpoint, safetensors, npz. Imports only ``files`` and ``codec``."""
