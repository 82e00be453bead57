"""Makes text that came from another process safe to print: on a terminal it can do nothing but be seen."""

from __future__ import annotations


def printable(text: str) -> str:
    """Returns the text with escapes, as in Python, in the place of whatever is not printed as a character of its own.

    Such are control characters, and so the escape sequences of terminals, line breaks, and marks that turn the
    direction of writing.
    """
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text])
