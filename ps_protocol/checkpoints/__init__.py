"""What a checkpoint is: its manifest, its parts, where they lie, and how they are moved. Imports no transport."""
