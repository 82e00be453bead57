"""What the programs are made of: the list of them, and numbers that are the same everywhere."""

import numpy as np

PROGRAMS = {}


def program(function):
    """Adds a program to the list."""
    PROGRAMS[function.__name__] = function
    return function


def wave(*shape, scale=1.0, phase=0.0):
    """Returns numbers in [-scale, scale], of which no two are alike."""
    places = np.arange(int(np.prod(shape)))
    return (scale * np.sin(places * 1.7 + phase)).reshape(shape).astype(np.float32)


def onehot(rows, classes):
    """Returns ones and zeros, one 1 in each row."""
    return np.eye(classes, dtype=np.float32)[(np.arange(rows) * 7 + 3) % classes]
