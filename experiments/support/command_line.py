"""Command lines made from pydantic models: a field is an option, its description is the help."""

import argparse
from collections.abc import Collection, Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pvae_pyro.data.spelling import tidied

Model = TypeVar("Model", bound=BaseModel)
METAVARS = {int: "N", float: "X", tuple: "A,B", str: "TEXT"}


def flag(name: str) -> str:
    """The option of a field."""
    return f"--{name.replace('_', '-')}"


def validated(parser: argparse.ArgumentParser, model: type[Model], given: dict[str, Any]) -> Model:
    """Make the model from the given options. An invalid value exits with the parser's error."""
    try:
        return model(**given)
    except ValidationError as error:
        parser.error(what_is_wrong(error))


def add_options(
    parser: argparse.ArgumentParser,
    groups: Iterable[type[BaseModel]],
    main: Any = None,
    without: Collection[str] = (),
) -> None:
    """Add an option for each field of `groups`, with a group of --help for each model.

    Options that are not given are absent from the namespace. main: the group of --help for fields
    marked `main`, if they are to be apart. without: fields that get no option.
    """
    for group in groups:
        place = parser.add_argument_group((group.__doc__ or "").splitlines()[0])
        for name, field in group.model_fields.items():
            if name not in without:
                is_main = main is not None and _extra(field).get("main")
                add_option(main if is_main else place, name, field)


def add_option(place: Any, name: str, field: FieldInfo, help: str | None = None) -> None:
    """Add the option of a field to a parser or a group of it."""
    kind, choices, optional = _kind(field.annotation)
    text = help or field.description or ""
    default = field.default
    if help is None and default not in (None, False, ()):
        shown = ",".join(default) if isinstance(default, tuple) else default
        text += f" (default: {shown})"
    options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction if optional else "store_true"
    else:
        metavar = None if choices else _extra(field).get("metavar") or METAVARS[kind]
        convert = _labels if kind is tuple else kind
        options.update(type=convert, choices=choices, metavar=metavar)
    place.add_argument(flag(name), **options)


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def _kind(annotation: Any) -> tuple[type, tuple[str, ...] | None, bool]:
    """Type of one value, its choices, and whether None is a value."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin in (Union, UnionType):
        (inner,) = (part for part in get_args(annotation) if part is not NoneType)
        return (*_kind(inner)[:2], True)
    if origin is Literal:
        return str, get_args(annotation), False
    return (tuple if origin is tuple else annotation), None, False


def _labels(text: str) -> tuple[str, ...]:
    return tuple(word for part in text.split(",") if (word := tidied(part)))


def what_is_wrong(error: ValidationError) -> str:
    """The first error that a model found, by the option's name."""
    first = error.errors()[0]
    reason = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
    if not first["loc"]:
        return reason
    value = "" if first["type"] == "value_error" else f" {first['input']!r}"[:60]
    return f"{flag(str(first['loc'][0]))}{value}: {reason}"
