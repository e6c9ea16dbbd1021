"""Command-line options made from `Settings`, so that each setting is described once."""

import inspect
import typing
from collections.abc import Callable, Collection
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.console import print_json, print_table
from eigenfeatures.export.settings import Settings, read_config

Values = dict[str, Any]

RESUME = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in the same folder.")]

_CONFIG = Annotated[
    Path | None, typer.Option("--config", help="TOML file of settings, or a run.toml; options override it.")
]
_JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def reports(command: Callable[..., Values]) -> Callable[..., None]:
    """Print what a command returns as a table, or as JSON with ``--json``.

    ``--debug`` is admitted too, and `eigenfeatures.export.cli.main` looks for it.
    """
    added = (_parameter("json", False, _JSON), _parameter("debug", False, _DEBUG))

    def reporting(*, json: bool, **given: Any) -> None:
        del given["debug"]
        try:
            values = command(**given)
        except KeyboardInterrupt as stop:
            # Typer would end with exit code 130 and not a word. 'infer' without --out can't be resumed.
            resumable = "resume" in given and given["out"] is not None
            advice = f"; '{command.__name__}' continues with --resume" if resumable else ""
            raise InterruptedError(f"interrupted{advice}") from stop
        if json:
            print_json(values)
        else:
            print_table({name.replace("_", " "): _text(value) for name, value in values.items()})

    return _like(reporting, command, [*inspect.signature(command).parameters.values(), *added])


def with_settings(command: Callable[..., Values], without: Collection[str] = ()) -> Callable[..., Values]:
    """Give a command an option for every setting but those that it chooses itself, and ``--config``.

    The command receives them merged, as its keyword argument ``settings``.
    """
    kinds = typing.get_type_hints(Settings)
    asked = [item for item in fields(Settings) if item.name not in without]
    options = [_option(item, kinds[item.name]) for item in asked]
    own = [
        parameter for name, parameter in inspect.signature(command).parameters.items() if name != "settings"
    ]

    def merged(*, config: Path | None, **given: Any) -> Values:
        chosen = {item.name: given.pop(item.name) for item in asked}
        settings = _merge(config, chosen)
        for item in fields(Settings):
            if item.name in without and getattr(settings, item.name) != item.default:
                raise InputError(
                    f"{config} sets '{item.name}', which '{command.__name__}' chooses itself; remove it"
                )
        return command(**given, settings=settings)

    return _like(merged, command, [*own, *options, _parameter("config", None, _CONFIG)])


def given_options(context: typer.Context, besides: Collection[str]) -> list[str]:
    """Return the options that a person gave a command, by name as ``--every``, but for some parameters."""
    given = []
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and name not in besides:
            given.append(parameter.opts[0])
    return given


def _like(
    wrapper: Callable[..., Any], command: Callable[..., Any], parameters: list[inspect.Parameter]
) -> Callable[..., Any]:
    """Let Typer see the command's name and text, and these parameters."""
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return wrapper


def _parameter(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return "\n".join(f"{name} {_text(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _merge(config: Path | None, chosen: Values) -> Settings:
    base = Settings.from_toml(_settings_in(read_config(config)), config) if config else Settings()
    given = {name: value for name, value in chosen.items() if value not in (None, [])}
    if "roi" in given:
        given["roi"] = tuple(given["roi"])
    return replace(base, **given)


def _settings_in(values: Values) -> Values:
    """Take the settings out of a ``run.toml``; another file holds nothing else."""
    recorded = values.get("settings")
    return recorded if isinstance(recorded, dict) else values


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
    return _parameter(item.name, None, Annotated[plain | None, option])
