"""variable_scope, get_variable and reuse, as in TensorFlow 1. Imports no ops and no sessions."""
