"""The base class of every component's settings."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Settings of one component: frozen, unknown keys refused, every field described with its unit."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def as_tuple(value: object) -> object:
    """A single value as a tuple of one, for settings that may be one or several."""
    return (value,) if isinstance(value, int | float | str) else value
