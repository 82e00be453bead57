"""Optimizers whose steps the ps tasks carry out, beside the variables: gradients go there, no parameters come back."""
