"""The sampling settings of a model as controls of a page, from what the class of its settings says of them."""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from genlab.errors import InputError
from genlab.models.base import GenerativeModel
from genlab.models.sampling import Range, SamplingSettings


@dataclass(frozen=True)
class Control:
    """A setting that can be changed on the page.

    Attributes:
        name: name of the setting.
        about: what the setting does.
        now: value of the setting before anybody changes it.
        values: values to choose from; empty for a number.
        range: range that a slider covers; None if nothing says which values are usual.
        is_whole: whether the number is an integer.
        is_optional: whether there may be no value, None.
    """

    name: str
    about: str
    now: Any
    values: Sequence[str] = ()
    range: Range | None = None
    is_whole: bool = False
    is_optional: bool = False

    def value(self, given: Any) -> Any:
        """Convert what a page gives, such as 8.0 for a whole number or an empty text for none, to a value.

        Raises:
            InputError: if a text is no number.
        """
        if self.values or given is None:
            return given
        if isinstance(given, str) and not given.strip() and self.is_optional:
            return None
        try:
            number = float(given)
        except ValueError as error:
            raise InputError(f"{self.name}={given}: give a number") from error
        return int(number) if self.is_whole and number.is_integer() else number


def controls_of(model: GenerativeModel) -> list[Control]:
    """List the settings of a model's class ``Sampling`` of which the model has more than one value.

    Args:
        model: model that is sampled; its own settings are the values of the controls.
    """
    hints, about = typing.get_type_hints(model.Sampling), _explanations(model.Sampling)
    controls = []
    for field in dataclasses.fields(model.Sampling):
        choices = model.sampling_choices.get(field.name)
        if choices is not None and len(choices) == 0:
            continue
        of, is_optional = _without_none(hints[field.name])
        values = tuple(typing.get_args(of)) if typing.get_origin(of) is Literal else ()
        now, usual = getattr(model.sampling, field.name), field.metadata.get("range")
        control = Control(
            field.name,
            about.get(field.name, ""),
            now,
            choices or values,
            _including(usual, now),
            of is int,
            is_optional,
        )
        controls.append(control)
    return controls


def values_of(controls: Sequence[Control], given: Sequence[Any]) -> dict[str, Any]:
    """Give the settings by their names.

    Args:
        controls: controls of the model's settings.
        given: what the page has for each of them.
    """
    return {control.name: control.value(one) for control, one in zip(controls, given, strict=True)}


def changes(controls: Sequence[Control], given: Sequence[Any]) -> dict[str, Any]:
    """Give the settings that differ from those that the model was opened with.

    Args:
        controls: controls of the model's settings.
        given: what the page has for each of them.
    """
    before = {control.name: control.now for control in controls}
    return {name: value for name, value in values_of(controls, given).items() if value != before[name]}


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Give the type of a setting, and whether it may be None."""
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint, False
    others = [one for one in typing.get_args(hint) if one is not type(None)]
    return others[0], len(others) < len(typing.get_args(hint))


def _including(usual: Range | None, now: float | None) -> Range | None:
    """Widen a range so that it has the value that the setting has now."""
    if usual is None or now is None:
        return usual
    return dataclasses.replace(usual, low=min(usual.low, now), high=max(usual.high, now))


def _explanations(settings: type[SamplingSettings]) -> Mapping[str, str]:
    """Read what the docstrings of a class of settings, and of the classes that it is made of, say of each setting."""
    found: dict[str, str] = {}
    for one in reversed(settings.__mro__[:-1]):
        section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(one.__doc__ or ""), re.DOTALL | re.MULTILINE)
        for name, text in re.findall(
            r"^ {4}(\w+): (.*?)(?=^ {4}\S|\Z)", section[1] if section else "", re.DOTALL | re.MULTILINE
        ):
            found[name] = " ".join(text.replace("``", "").split())
    return found
