"""Options of a training as the command line has them: one dataclass field is one option.

A field is an option if its type is annotated with `Option`: `patience: Annotated[int, Option("epochs without a better
loss")] = 5`. `add_options` makes the arguments of a command from such fields, `options_of` makes the dataclass from the
parsed arguments, and `command` writes the command line for a model card.
"""

import argparse
from collections.abc import Callable, Collection, Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar, get_type_hints

Options = TypeVar("Options")


def text_of(value: Any) -> str:
    """A value as the command line takes it: `16,32,96,192`, `0.001`."""
    if isinstance(value, tuple):
        return ",".join(map(text_of, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Option:
    """How a field of a dataclass becomes an option of the command line."""

    help: str  # one line for `--help`; the default is appended if the line does not speak of a default itself
    parse: Callable[[str], Any] | None = None  # text → value; None: the type of a default that is a number, else text
    choices: Collection[Any] = ()  # the values allowed
    metavar: str | None = None  # stands for the value in `--help`; None: N for a number
    repeated: bool = False  # may be given several times; the field is a tuple of text
    recorded: Callable[[Any], str] | None = text_of  # a value in a card's command line; None: left out of it
    only_if: tuple[str, Any] | None = None  # (field, value): recorded only if that field has this value


def declared(kind: type) -> Iterator[tuple[str, Any, Option]]:
    """Name, default and `Option` of each field that is an option; a class's own before those that it inherits."""
    hints = get_type_hints(kind, include_extras=True)
    inherited = {each.name for base in kind.__mro__[1:] if base is not object for each in fields(base)}
    for each in sorted(fields(kind), key=lambda each: each.name in inherited):
        for note in getattr(hints[each.name], "__metadata__", ()):
            if isinstance(note, Option):
                yield each.name, each.default, note


def add_options(parser: argparse.ArgumentParser, kind: type, names: Collection[str] | None = None) -> None:
    """Add one argument for each option of a dataclass, or for those in `names`; required if there is no default."""
    for name, default, option in declared(kind):
        if names is None or name in names:
            parser.add_argument(_flag(name), **_argument(default, option))


def options_of(kind: type[Options], arguments: argparse.Namespace, **other: Any) -> Options:
    """The dataclass that the parsed arguments describe; `other` values replace those of the command line."""
    values = vars(arguments) | other
    given = {each.name: values[each.name] for each in fields(kind) if each.name in values}  # type: ignore[arg-type]
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def command(name: str, options: Any) -> str:
    """The command line `modic train NAME …` that repeats a training; folders, patients and machines are left out."""
    words = [f"modic train {name}"]
    for field, _, option in declared(type(options)):
        value = getattr(options, field)
        if not (value is None or value is False or value == "") and _applies(option, options):
            words += _recorded(field, value, option)
    return " ".join(words)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _argument(default: Any, option: Option) -> dict[str, Any]:
    """The keywords of argparse's `add_argument`."""
    if default is False:
        return {"action": "store_true", "help": option.help}
    number, required = type(default) in (int, float), default is MISSING
    stated = required or default is None or default == "" or "(default" in option.help
    optional = {
        "type": option.parse or (type(default) if number else None),
        "choices": tuple(option.choices) or None,
        "metavar": option.metavar or ("N" if number and not option.choices else None),
        "action": "append" if option.repeated else None,
        "default": None if required else default,
    }
    text = option.help if stated else f"{option.help} (default: {text_of(default)})"
    return {"help": text, "required": required} | {key: value for key, value in optional.items() if value is not None}


def _applies(option: Option, options: Any) -> bool:
    return option.only_if is None or getattr(options, option.only_if[0]) == option.only_if[1]


def _recorded(name: str, value: Any, option: Option) -> list[str]:
    if option.recorded is None:
        return []
    if value is True:
        return [_flag(name)]
    return [f"{_flag(name)} {option.recorded(each)}" for each in (value if option.repeated else (value,))]
