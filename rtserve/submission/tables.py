"""TOML tables as frozen dataclasses: an unknown key is an error that names the nearest known one."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from rtserve.errors import ProfileError
from rtserve.nearest import meant

__all__ = ["from_table"]

T = TypeVar("T")


def from_table(cls: type[T], data: Any, where: str) -> T:
    """Make a dataclass from a TOML table; `where` is what errors call it.

    Raises
    ------
    ProfileError
        Where a key is unknown or missing, or a value has another type than the field.
    """
    if not isinstance(data, dict):
        raise ProfileError(f"{where} is {data!r}, not a table", hint="write it as a TOML table")
    hints = get_type_hints(cls)
    known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            raise ProfileError(
                f"{where} has the unknown key {key!r}",
                hint=meant(key, known, f"known keys are {', '.join(known)}"),
            )
    needed = (k for k, f in known.items() if f.default is MISSING and f.default_factory is MISSING)
    missing = [key for key in needed if key not in data]
    if missing:
        raise ProfileError(f"{where} lacks {', '.join(missing)}", hint=f"known keys are {', '.join(known)}")
    return cls(**{key: _convert(hints[key], value, f"{where}: {key}") for key, value in data.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Return a TOML value as the type that a field declares, or raise `ProfileError` with both."""
    if hint is Any:
        return value
    if type(None) in get_args(hint):
        hint = next(option for option in get_args(hint) if option is not type(None))
    if hasattr(hint, "__dataclass_fields__"):
        return from_table(hint, value, where)
    origin = get_origin(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(get_args(hint)[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {str(key): _convert(get_args(hint)[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    expected = "a list" if origin is tuple else "a table" if origin is dict else getattr(hint, "__name__", str(hint))
    raise ProfileError(f"{where} is {value!r}", hint=f"it must be {expected}")
