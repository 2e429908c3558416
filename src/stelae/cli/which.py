"""Which environment is meant: by its name, and by the ``stelae.toml`` of this folder. Without click, which takes
longer to import than most answers take."""

from __future__ import annotations

from stelae.domain.errors import InvalidInput

SPEC = "stelae.toml"


def environment_name(given: str, app: str) -> str:
    """Return *given* as ``app/env``: as it is, or with *app*, or with the app of stelae.toml here."""
    if given.count("/") == 1:
        of, _, name = given.partition("/")
        if app and of != app:
            raise InvalidInput(f"--app {app} and {given} name two apps")
        return f"{of}/{name}"
    if "/" in given or not given:
        raise InvalidInput(f"not an environment: {given!r}", hint="give ENV, or APP/ENV")
    return f"{app or _app_here(given)}/{given}"


def _app_here(env: str) -> str:
    """Return the app of stelae.toml here. Where it cannot be read, the error says how to do without: whoever has to
    abort a deployment has no time to correct a file."""
    try:
        return spec_here()[0]
    except InvalidInput as error:
        hint = error.hint or f"it is not needed with --app NAME, or APP/{env} in place of {env}"
        raise InvalidInput(error.message, where=error.where, hint=hint) from error


def reference(text: str) -> str:
    """Return *text* as the controller knows it: the name of an environment of stelae.toml here gets its app."""
    try:
        app, environments, _ = spec_here()
    except InvalidInput:
        return text
    return f"{app}/{text}" if text in environments else text


def spec_here() -> tuple[str, list[str], str]:
    """Return the app, the names of the environments in their order, and the text of stelae.toml in this folder."""
    import tomllib

    try:
        with open(SPEC, encoding="utf-8") as file:  # noqa: PTH123 - pathlib takes longer
            text = file.read()
        document = tomllib.loads(text)
    except FileNotFoundError as error:
        raise InvalidInput(
            f"which app? there is no {SPEC} in this folder", hint="give --app NAME, or APP/ENV; make one: stelae init"
        ) from error
    except tomllib.TOMLDecodeError as error:
        from stelae.spec import reading

        reading.read(text, SPEC)  # raises with the place in front
        raise InvalidInput(str(error), where=SPEC) from error
    except (OSError, ValueError) as error:
        raise InvalidInput(str(error), where=SPEC) from error
    app, environments = document.get("app"), document.get("env", {})
    name = app.get("name") if isinstance(app, dict) else None
    if not isinstance(name, str) or not name:
        raise InvalidInput('[app] needs a name: name = "…"', where=SPEC)
    return name, list(environments) if isinstance(environments, dict) else [], text
