"""A whole state at one position, as safetensors files with a manifest."""
