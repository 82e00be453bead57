"""What workers tell their group of training together, and what they are answered, as JSON. Imports no other room."""
