"""How a command ends: 0 done, 1 it failed or is not there, 2 bad usage, 130 Ctrl-C, 141 nobody reads any more.

One line says why, never a traceback; SCHEDULER_DEBUG=1 shows it all the same, of whatever failed.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable

import click
import psycopg

from scheduler import db, records
from scheduler.config import redact
from scheduler.errors import InvalidError, SchedulerError
from scheduler.store.refusal import explained

log = logging.getLogger(__name__)

FAILED = 1
BAD_USAGE = 2
INTERRUPTED = 128 + 2
BROKEN_PIPE = 128 + 13


def status_of(command: Callable[[], object]) -> int:
    """Run a command and say with what status the process should exit; what went wrong is already on stderr."""
    try:
        status = command()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough. What is still buffered must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.exceptions.Exit as done:  # --help, --version
        return done.exit_code
    except click.ClickException as error:
        _say(_of_usage(error))
        return error.exit_code
    except Exception as error:  # noqa: BLE001  the last resort: a line instead of a traceback
        return _failed(error)
    return status if isinstance(status, int) else 0


def _failed(error: Exception) -> int:
    if os.environ.get("SCHEDULER_DEBUG") == "1":
        traceback.print_exception(error)
    _say(worded(error))
    known = explained(error) if isinstance(error, psycopg.Error) else error
    return BAD_USAGE if isinstance(known, InvalidError) else FAILED


def worded(error: BaseException) -> str:
    """An error in one line for a person: what is wrong, and in brackets the way out."""
    while isinstance(error, BaseExceptionGroup):  # of services that fail together the first says it
        error = error.exceptions[0]
    if isinstance(error, psycopg.Error):
        error = explained(error) or _of_database(error)
    if isinstance(error, SchedulerError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "the database did not answer in time"
    if isinstance(error, OSError):
        return str(error)
    return f"{type(error).__name__}: {error} (this is a bug; run with SCHEDULER_DEBUG=1 for the traceback)"


def _of_database(error: psycopg.Error) -> SchedulerError:
    text = db.reason(error)
    if isinstance(error, psycopg.errors.QueryCanceled):
        return SchedulerError(text, hint="narrow what is asked for, or raise SCHEDULER_STATEMENT_TIMEOUT")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return SchedulerError(text, hint="this login lacks a right on the schema scheduler")
    if error.sqlstate is None:  # not an answer of the server: libpq lost it
        return SchedulerError(f"the connection to the database was lost: {redact(text)}")
    return SchedulerError(f"the database refused: {text}")


def _of_usage(error: click.ClickException) -> str:
    text = error.format_message()
    context = getattr(error, "ctx", None)
    return f"{text} (see {context.command_path} --help)" if context else text


def _say(line: str) -> None:
    line = " ".join(line.split())
    try:
        if records.is_json():
            log.critical("%s", line)
        else:
            click.echo(f"error: {line}", err=True)
    except OSError:  # stderr is closed: nobody is there to be told
        return
