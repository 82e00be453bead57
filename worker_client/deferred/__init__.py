"""Variables, tensors and arithmetic of a graph that a session runs later. Imports no scopes and no sessions."""
