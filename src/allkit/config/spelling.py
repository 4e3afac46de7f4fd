"""How something is given in Python and on the command line, for messages that serve both."""

from __future__ import annotations

__all__ = ["argument", "flag", "setting"]


def flag(name: str) -> str:
    """Return what switches something on: `resume=True (--resume)`."""
    return f"{name}=True (--{name})"


def argument(name: str) -> str:
    """Return the argument that holds a value: `` `out` (--out) ``."""
    return f"`{name}` (--{name})"


def setting(name: str, value: object) -> str:
    """Return a setting with its value: `copies=1 (--set copies=1)`."""
    return f"{name}={value} (--set {name}={value})"
