"""The derivative of each array function, by autograd's rules. Imports only values.

Where the derivative of an operation comes from, in this order:

1. The function that computes it was registered beside its definition, or the class that it is an object of::

       @differentiable(SELECTING)            # the output consists of elements of the arguments, in other places
       @differentiable(Traced(twin))         # traced by autograd in each run, as a function of ``autograd.numpy``
       @differentiable(rule)                 # a rule, as below

2. The type of the operation has a row in the ``RULES`` of a module here, which ``table`` puts together.
3. The function is NumPy's, and autograd has a rule for it.

A rule has the form of autograd's: ``rule(argnums, ans, args, kwargs)`` returns a function of the gradient of the output
that returns the gradients of the arguments ``argnums``, one each. ``args`` are the positional arguments of the
function, tensors and constants alike; ``kwargs`` its keyword arguments, or, of an operation that ``built_op`` made, its
attributes. If the function returns several arrays, ``ans`` and the gradient are tuples; zeros stand for outputs without
gradient. ``each(vjp_of_argument_0, vjp_of_argument_1, ...)`` makes a rule of functions as ``defvjp`` takes them, each
``(ans, *args) -> (g -> gradient)``. Rules are written with ``autograd.numpy``, so that they can be differentiated
themselves. A gradient has the shape of its argument; a wider dtype is brought back.

A function that autograd does not know can become a primitive of its own, with its derivatives beside it::

    @primitive                                                                    # of ``primitives``
    def conv2d(x: Array, filters: Array, strides: Sequence[int], padding: str) -> Array: ...

    defvjp(conv2d, lambda ans, x, filters, strides, padding: lambda g: conv2d_input(g, filters, ...), ...)

    RULES["Conv2D"] = of_primitive(conv2d)

The operation is then ``call(conv2d, [x, filters, strides, padding], op_type="Conv2D")``: its arguments are those four.
Only gradients by tensors of floats are ever asked for.
"""
