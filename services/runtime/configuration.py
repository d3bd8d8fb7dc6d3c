"""Shows the settings in force, and explains wrong ones by the variable to change."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsError

HIDDEN = "********"


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting as `heliograph config` shows it; a secret's value is hidden."""

    variable: str
    value: str
    source: str
    description: str


def settings_in_force(*groups: BaseSettings) -> list[SettingLine]:
    """All settings of the groups, each with the variable that sets it and where its value is from
    (`environment`, `default`, or `argument` when code passed it)."""
    lines: list[SettingLine] = []
    for group in groups:
        lines.extend(_lines(group, str(group.model_config.get("env_prefix", ""))))
    return lines


def _lines(model: BaseModel, prefix: str) -> Iterator[SettingLine]:
    for name, field in type(model).model_fields.items():
        variable = f"{prefix}{name}".upper()
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _lines(value, f"{variable}_")
        else:
            description = " ".join((field.description or "").split())
            yield SettingLine(variable, _shown(value), _source(model, name, variable), description)


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return HIDDEN if value.get_secret_value() else ""
    return "" if value is None else str(value)


def _source(model: BaseModel, name: str, variable: str) -> str:
    if any(key.upper() == variable and value for key, value in os.environ.items()):
        return "environment"
    field: FieldInfo = type(model).model_fields[name]
    is_default = getattr(model, name) == field.get_default(call_default_factory=True)
    return "default" if is_default or not isinstance(model, BaseSettings) else "argument"


def explain(error: ValidationError | SettingsError) -> list[str]:
    """One line for each wrong setting, naming the variable to change."""
    if isinstance(error, SettingsError):
        return _explain_unreadable(error)
    prefix = _prefix(error.title)
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        message = problem["msg"].removeprefix("Value error, ")
        path = "_".join(str(part) for part in problem["loc"])
        lines.append(f"{prefix}{path}".upper() + f": {message}" if path else message)
    return lines


def _explain_unreadable(error: SettingsError) -> list[str]:
    """Pydantic reports a value that is not the JSON it should be by the field's name alone."""
    field = str(error).partition('"')[2].partition('"')[0].upper()
    named = [name for name in os.environ if name.upper().endswith(field)] if field else []
    return [f"{name}: is not valid JSON" for name in named] or [str(error)]


def _prefix(title: str) -> str:
    pending = list(BaseSettings.__subclasses__())
    while pending:
        kind = pending.pop()
        if kind.__name__ == title:
            return str(kind.model_config.get("env_prefix", ""))
        pending.extend(kind.__subclasses__())
    return ""
