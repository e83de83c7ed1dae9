"""Versions of what the tests run with, for what older ones do otherwise."""


def release(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(map(int, version.split(".")[:2]))
