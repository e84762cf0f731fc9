"""The front door: the `understudy` command.

Every command imports its room when it runs, so that `--help` answers at once. Exit 0: done. 1: the work failed. 2: the
input is wrong, said in one line. With `--json` one JSON document goes to stdout; everything else goes to stderr.
"""

from __future__ import annotations

import errno
import os
import signal
import sys

import typer

from understudy.cli import cards, catalog, data, recipes, review, stage_door, stages
from understudy.errors import UnderstudyError

STOPPED = 130
"""What shells give for Ctrl-C, and what typer exits with then."""

# What the system says of a path that a person gave: it names the wrong thing, or one that we may not use.
NAMED_WRONG = (
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.EROFS,
)

app = typer.Typer(
    name="understudy",
    help="Novels and scripts go in; their characters talk: one base model, one LoRA adapter per character.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
stages.register(app)
data.register(app)
review.register(app)
stage_door.register(app)
app.add_typer(recipes.app, name="recipe")
app.add_typer(catalog.app, name="catalog")
app.add_typer(cards.app, name="cards")


def main() -> None:
    """Run the command line; every refusal is one line and an exit code."""
    from understudy.telemetry import turn_off_telemetry

    turn_off_telemetry()
    # What stops a job politely (a cluster, `timeout`, a service manager) is told the same as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of one command line."""
    try:
        result = typer.main.get_command(app)(arguments, prog_name="understudy", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        return _stopped() if code == STOPPED else code
    except UnderstudyError as error:
        return _say(str(error), error.exit_code)
    except typer.Exit as error:
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return _stopped()
    except typer.TyperException as error:
        written = getattr(error, "format_message", None)
        message = written() if written else str(error)
        context = getattr(error, "ctx", None)
        if context is not None and message.startswith("Usage:"):  # called with nothing: the help is the message
            print(message, file=sys.stderr)
            return 2
        return _say(f"{message}{f' (see `{context.command_path} --help`)' if context else ''}", 2)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _say(
                "no space left on the disk; free some and run the same command again (finished work is kept)", 1
            )
        if not isinstance(error.filename, str | bytes | os.PathLike):
            raise
        return _say(f"{os.fsdecode(error.filename)}: {error.strerror}", 2 if error.errno in NAMED_WRONG else 1)


def _stopped() -> int:
    return _say("stopped; what was finished is kept, the same command goes on from there", STOPPED)


def _say(text: str, code: int) -> int:
    print(f"understudy: {' '.join(text.split())}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    main()
