"""Which names of one side stand for which of the other: ``{"encoder/*": "old/encoder/*"}``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ps_protocol.errors import InvalidArgumentError


def selected(names: Mapping[str, str], there: Collection[str]) -> dict[str, str]:
    """Returns which names of a checkpoint are wanted, by the names that they are to have.

    Args:
        names: For names that are wanted, those in the checkpoint; "*" at most once in each stands for the same. The
            first pattern that gives a name counts.
        there: What the checkpoint has.

    Raises:
        InvalidArgumentError: A pattern makes no sense, or fits nothing.
    """
    if not isinstance(names, Mapping) or [each for each in [*names, *names.values()] if not isinstance(each, str)]:
        raise InvalidArgumentError(f"names is {names!r}; give texts by texts, as {{'encoder/*': 'old/encoder/*'}}")
    wanted: dict[str, str] = {}
    for target, source in names.items():
        if target.count("*") > 1 or target.count("*") != source.count("*"):
            raise InvalidArgumentError(
                f"the pattern {target!r}: {source!r} should have one * on both sides, or none on either"
            )
        fitting = [(name, matched(source, name)) for name in there]
        found = {target.replace("*", middle): name for name, middle in fitting if middle is not None}
        if not found:
            raise InvalidArgumentError(
                f"the checkpoint has no variable {source!r} for {target!r}; it has {_some(there)}"
            )
        wanted.update({name: saved for name, saved in found.items() if name not in wanted})
    return wanted


def matched(pattern: str, name: str) -> str | None:
    """What stands for "*" in a name, "" if the pattern has none; None if it does not fit."""
    before, star, after = pattern.partition("*")
    if not star:
        return "" if name == pattern else None
    fits = len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after)
    return name[len(before) : len(name) - len(after)] if fits else None


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    return f"{', '.join(found[:5])}{' ...' if len(found) > 5 else ''}" if found else "none"
