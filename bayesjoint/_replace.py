"""How a frozen specification is changed: by making another."""

from dataclasses import fields
from typing import Any, ClassVar, Self

from bayesjoint import arrays


class Replaceable(arrays.Shown):
    """A frozen dataclass with copies that have other settings, checked as those of any other."""

    _positional: ClassVar[str] = ""  # the setting that is given as *args, if any

    def _settings_given(self) -> dict[str, Any]:
        """Return what it was made with, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}  # type: ignore[arg-type]

    def replace(self, **changes: Any) -> Self:
        """Return the same with some settings replaced."""
        given = self._settings_given()
        for name in changes:
            if name not in given:
                raise TypeError(
                    f"{type(self).__name__} has no setting {name!r} to replace; there are "
                    f"{list(given)}"
                )
        given |= changes
        return type(self)(*given.pop(self._positional, ()), **given)
