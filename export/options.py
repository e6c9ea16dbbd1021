"""Command-line options made from `Settings`, so that each setting is described once."""

import inspect
import typing
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.settings import Settings, read_config

CONFIG = Annotated[Path | None, typer.Option("--config", help="TOML file with the same settings; options override it.")]
JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every setting, and ``--config``.

    The command receives them merged, as its keyword argument ``settings``.
    """
    own = inspect.signature(command)
    kinds = typing.get_type_hints(Settings)
    options = [_option(item, kinds[item.name]) for item in fields(Settings)]
    config = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=CONFIG)

    def merged(*, config: Path | None = None, **given: Any) -> None:
        chosen = {item.name: given.pop(item.name) for item in fields(Settings)}
        command(**given, settings=_merge(config, chosen))

    kept = [parameter for name, parameter in own.parameters.items() if name != "settings"]
    merged.__signature__ = own.replace(parameters=[*kept, *options, config])  # type: ignore[attr-defined]
    merged.__name__, merged.__doc__ = command.__name__, command.__doc__
    return merged


def _merge(config: Path | None, chosen: dict[str, Any]) -> Settings:
    settings = read_config(config) if config else {}
    given = {name: value for name, value in chosen.items() if value not in (None, [])}
    if "roi" in given:
        given["roi"] = tuple(given["roi"])
    base = Settings.from_toml(settings, config) if config else Settings()
    try:
        return Settings(**{**{item.name: getattr(base, item.name) for item in fields(Settings)}, **given})
    except TypeError as error:
        raise InputError(str(error)) from error


def _option(item: Field[Any], kind: Any) -> inspect.Parameter:
    name = "--" + item.name.replace("_", "-")
    text = item.metadata["help"]
    if item.metadata["choices"]:
        text += f": {', '.join(item.metadata['choices'])}"
    if item.default not in (None, ()):
        text += f" (default: {item.default})"
    if item.name == "roi":
        plain: Any = list[str]
    else:
        plain = next(part for part in typing.get_args(kind) or (kind,) if part is not type(None))
    # None tells a setting that was not given from one that was given its default.
    option = typer.Option(name, help=text, show_default=False, rich_help_panel="Settings")
    return inspect.Parameter(
        item.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[plain | None, option]
    )
