"""The whole state at one position, as safetensors files with a manifest. Must not import the journal."""
