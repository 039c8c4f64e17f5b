"""The command `sqlkit`: finds the command group, and turns errors into messages and exit codes.

Exit codes: 0 all well, 1 failed, 2 wrong usage, 3 loaded with rejects within the limit, 4 refused
because the limit was passed, 130 interrupted (Control-C), 143 terminated (SIGTERM).

A group's module is imported when one of its commands is called, and only then: ``sqlkit --help``
lists them without importing any.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import typer
import typer.core
import typer.main

from sqlkit.errors import SqlkitError

INTERRUPTED = 130
TERMINATED = 143


class Command(NamedTuple):
    """Where a command is: a function, or a typer application with commands of its own."""

    module: str
    attribute: str
    help: str


COMMANDS = {
    "up": Command("server", "up", "Start the embedded server, or deploy to the one named."),
    "down": Command("server", "down", "Stop the embedded server."),
    "status": Command("server", "status", "Say which server is meant and how it stands."),
    "psql": Command("server", "psql", "Open psql on the server."),
    "init": Command("project", "init", "Make a project: a folder that says what is loaded."),
    "config": Command("project", "config", "Check the project's file; its schema for editors."),
    "plan": Command("project", "plan", "Say what run would do, and change nothing."),
    "run": Command("project", "run", "Load the tables of a project, in their order."),
    "verify": Command("comparing", "verify", "Compare tables of a project with their sources."),
    "bench": Command("comparing", "bench", "Try a table's strategies side by side on copies."),
    "sql": Command("sql", "app", "Render, lint and test the templates of a project."),
    "load": Command("load", "load", "Load files into a table."),
    "copy-db": Command("copy_db", "copy_db", "Copy a database of MySQL or MariaDB into a schema."),
    "refresh": Command("refresh", "refresh", "Give a table a whole new content."),
    "runs": Command("runs", "runs", "Show what was loaded, when, from where."),
    "rejects": Command("rejects", "rejects", "List, export, replay or dismiss refused rows."),
    "conflicts": Command("conflicts", "conflicts", "Find rows that contradict each other."),
    "fdw": Command("fdw", "fdw", "Make, list, check and drop foreign servers."),
    "repair": Command("repair", "repair", "Put in order what dead programs left behind."),
    "watch": Command("watch", "watch", "Show what goes on, live."),
    "metrics": Command("metrics", "metrics", "Print or serve numbers for Prometheus."),
    "report": Command("report", "report", "Write a page with plots."),
    "optimize": Command("optimize", "optimize", "Vacuum, analyze and reindex what needs it."),
    "doctor": Command("doctor", "doctor", "List what is wrong, and what mends it."),
    "tune": Command("tune", "tune", "Advise settings of the server; size a planned load."),
    "migrate": Command("migrate", "migrate", "Deploy, upgrade, verify and remove sqlkit's SQL."),
    "extension": Command("extension", "extension", "Deploy sqlkit as an extension instead."),
    "demo": Command("demo", "demo", "Load real flights, four times, into an embedded server."),
}


class LazyGroup(typer.core.TyperGroup):
    """A group that knows its commands' names and imports a command to run it."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(no_such_command(args[0], COMMANDS))
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = COMMANDS.get(cmd_name)
        if command is None:
            return None
        module = importlib.import_module(f"sqlkit.cli.{command.module}")
        return _as_command(cmd_name, getattr(module, command.attribute))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])


def no_such_command(word: str, commands: Iterable[str]) -> str:
    """What is wrong with a word where a command should stand, and which one was meant."""
    from difflib import get_close_matches

    close = " or ".join(map(repr, get_close_matches(word, commands)))
    return f"No such command {word!r}.{f' Did you mean {close}?' if close else ''}"


def _as_command(name: str, found: typer.Typer | Callable[..., Any]) -> Any:
    if isinstance(found, typer.Typer):
        built = typer.main.get_command(found)
    else:
        single = _new_app()
        # psql's own options belong to psql.
        settings = {"ignore_unknown_options": True} if name == "psql" else None
        single.command(name=name, context_settings=settings)(found)
        built = typer.main.get_command(single)
    built.name = name
    return built


def _new_app(**options: Any) -> typer.Typer:
    # Without rich: importing it for a help page takes longer than everything else together.
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        **options,
    )


app = _new_app(cls=LazyGroup, no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"sqlkit {version('sqlkit')}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Load anything into PostgreSQL exactly once, at COPY speed.

    The server is the one named by --dsn, by SQLKIT_DSN or by libpq's PG* variables, else the
    embedded one of this directory. Exit codes: 0 all well, 1 failed, 2 wrong usage, 3 loaded
    with rejects within the limit, 4 refused because the limit was passed.
    """


def main() -> None:
    """Run the command line and exit; the entry point of the command `sqlkit`."""
    signal.signal(signal.SIGTERM, _end)
    try:
        code = app(prog_name="sqlkit", standalone_mode=False)
        if code == INTERRUPTED:  # typer has caught it, and says nothing
            raise KeyboardInterrupt
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough, say `| head`. Python would complain once
        # more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except BaseException as error:  # noqa: BLE001 - nothing ends in a traceback
        code = _report(error)
    # Python would look for garbage several times before it ends, for 0.03 s and more.
    gc.freeze()
    sys.exit(code if isinstance(code, int) else 0)


def _end(_number: int, _frame: object) -> None:
    """Who stops a service lets it clear up, as Control-C does."""
    raise SystemExit(TERMINATED)


def _report(error: BaseException) -> int:
    """Say what went wrong, on stderr or as JSON where that is asked for; the exit code."""
    if isinstance(error, SystemExit) and error.code != TERMINATED:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if os.environ.get("SQLKIT_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if type(error).__name__ == "NoArgsIsHelpError":  # not public in typer; its text is the help
        print(error, file=sys.stderr)
        return 2
    problem = _as_problem(error)
    if _json_wanted():
        print(json.dumps({"error": problem._asdict()}, ensure_ascii=False))
        return problem.exit_code
    is_broken_off = problem.exit_code in (INTERRUPTED, TERMINATED)
    lines = [problem.message if is_broken_off else f"error: {problem.message}"]
    if problem.detail:
        lines.append(f"detail: {problem.detail}")
    if problem.hint:
        lines.append(f"hint: {problem.hint}")
    from sqlkit.cli.progress import printable

    print(printable("\n".join(lines)), file=sys.stderr)
    return problem.exit_code


class Problem(NamedTuple):
    """An error as the command line shows it."""

    code: str | None
    message: str
    detail: str | None
    hint: str | None
    exit_code: int


def _as_problem(error: BaseException) -> Problem:
    if isinstance(error, SqlkitError):
        return Problem(error.code, error.message, error.detail, error.hint, error.exit_code)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Problem(None, "interrupted", None, None, INTERRUPTED)
    if isinstance(error, SystemExit):
        return Problem(None, "terminated", None, None, TERMINATED)
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        where = getattr(context, "command_path", "sqlkit")
        hint = f"{where} --help"
        return Problem("SK001", error.format_message(), None, hint, error.exit_code)
    # Loaded only where a command made a connection: then, and only then, can it be psycopg's.
    psycopg = sys.modules.get("psycopg")
    if psycopg is not None and isinstance(error, psycopg.Error):
        return _database_problem(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return Problem("58030", f"{where}{error.strerror}", None, None, 1)  # io_error
    hint = "This is a defect of sqlkit; SQLKIT_DEBUG=1 shows where it happened."
    return Problem("SK000", f"{type(error).__name__}: {error}", None, hint, 1)


def _database_problem(error: Any) -> Problem:
    diagnostic = error.diag
    message = diagnostic.message_primary or str(error).strip()
    code = error.sqlstate or ("08001" if type(error).__name__ == "OperationalError" else None)
    hint = diagnostic.message_hint
    if hint is None and error.sqlstate is None:
        hint = "sqlkit status says which server is meant, and who named it."
    return Problem(code, message, diagnostic.message_detail, hint, 1)


def _json_wanted() -> bool:
    words = sys.argv[1:]
    if "--" in words:
        words = words[: words.index("--")]
    return "--json" in words


if __name__ == "__main__":
    main()
