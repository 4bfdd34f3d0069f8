"""Command lines made from pydantic models: a field is an option, its description the help."""

import argparse
from collections.abc import Collection, Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pvae_pyro.data.spelling import tidied


def flag(name: str) -> str:
    """The option of a field."""
    return f"--{name.replace('_', '-')}"


Model = TypeVar("Model", bound=BaseModel)


def validated(parser: argparse.ArgumentParser, model: type[Model], given: dict[str, Any]) -> Model:
    """The model with the options that were given. On a value that is not valid the parser exits."""
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
    """Add an option for each field of `groups`, a group of --help for each model.

    What was not given is not in the namespace. main: the group of --help for the fields marked
    `first`; None leaves them where they are. without: fields that get no option.
    """
    for group in groups:
        place = parser.add_argument_group((group.__doc__ or "").splitlines()[0])
        for name, field in group.model_fields.items():
            if name in without:
                continue
            extra = field.json_schema_extra
            first = isinstance(extra, dict) and bool(extra.get("first"))
            add_option(main if main is not None and first else place, name, field)


def add_option(place: Any, name: str, field: FieldInfo, help: str | None = None) -> None:
    """Add the option of a field to a parser or a group of it."""
    kind, choices, optional = _kind(field.annotation)
    shows_default = help is None and field.default not in (None, False, ())
    help = help or field.description or ""
    if shows_default:
        default = field.default
        shown = ",".join(default) if isinstance(default, tuple) else default
        help += f" (default: {shown})"
    given: dict[str, Any] = {"default": argparse.SUPPRESS, "help": help.replace("%", "%%")}
    if kind is bool:
        given["action"] = argparse.BooleanOptionalAction if optional else "store_true"
    else:
        extra = field.json_schema_extra
        given["metavar"] = extra.get("metavar") if isinstance(extra, dict) else None
        given["type"] = _labels if kind is tuple else kind
        given["choices"] = choices
    place.add_argument(flag(name), **given)


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
    """The first thing that a model found wrong, by the option's name."""
    first = error.errors()[0]
    reason = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
    if not first["loc"]:
        return reason
    value = "" if first["type"] == "value_error" else f" {first['input']!r}"[:60]
    return f"{flag(str(first['loc'][0]))}{value}: {reason}"
