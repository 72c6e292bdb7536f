"""`firesteel`: the group of commands, and the output of errors."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from firesteel.conf.codes import CODES
from firesteel.conf.errors import FiresteelError, RuntimeFault, SpecError, SpecErrors
from firesteel.conf.redaction import scrub
from firesteel.conf.version import VERSION
from firesteel.jobs.cli.files import check_working_directory, file_fault
from firesteel.jobs.cli.options import check_text
from firesteel.jobs.cli.parent import end_with_parent
from firesteel.jobs.interrupt import CANCELLED, CANCELLED_EXIT, interrupted, raise_on_signals
from firesteel.jobs.output import keep_output_open
from firesteel.jobs.utf8 import restart_in_utf8_mode

COMMANDS = {
    "init": ("init", "Create a project. `--demo flights` adds data and a model."),
    "validate": ("spec", "Check a spec and show all errors. Reads no data."),
    "plan": ("plan", "Show what a run would do and why. `-o` writes the plan."),
    "explain": ("explain", "Draw a pipeline: sources, steps, models, gates and sinks."),
    "diff": ("explain", "Compare two specs or plans, and show the affected intervals."),
    "run": ("run", "Plan intervals and execute them."),
    "backfill": ("backfill", "Score a long range with one plan. `--resume` continues it."),
    "apply": ("run", "Execute a plan from a file, unchanged."),
    "show": ("show", "Print rows of a step for one interval. Publishes nothing."),
    "test": ("test", "Run the test cases of a spec on a local Spark."),
    "submit": ("submit", "Print or run the spark-submit command of a plan."),
    "pack": ("pack", "Pack this Python environment for `submit --archive`."),
    "status": ("status", "Show the latest attempt of each interval."),
    "history": ("ledger", "Show every attempt, newest first."),
    "report": ("report", "Print the path of a run's HTML report."),
    "data-docs": ("data_docs", "Build Great Expectations Data Docs from a run's gate results."),
    "recover": ("ledger", "Complete or discard the unfinished work of dead runs."),
    "rollback": ("undo", "Restore an interval to its state before the latest publish."),
    "cancel": ("undo", "Cancel a run. Intervals that are not published yet are discarded."),
    "quarantine": ("quarantine", "List rows that gates excluded from scoring."),
    "dead-letter": ("dead_letter", "Show rows that could not be scored, and score them again."),
    "audit": ("audit", "Show who published which interval, and verify the log."),
    "doctor": ("doctor", "Check Java, Python, Spark, HDFS, MLflow and RDMA."),
    "schema": ("spec", "Print the JSON Schema of a spec, for editors."),
}
"""The module and the summary of each command."""

HELP = """Run batch inference on Spark as one transaction: plan, score, check, publish.

A pipeline is a YAML spec. `plan` fixes the input files and the model version. `run` scores the rows, checks the
scores with gates before readers can see them, and publishes all partitions of an interval or none.

\b
First steps:
  firesteel init --demo flights demo && cd demo
  firesteel validate
  firesteel test
  firesteel plan --start 2013-06-01 --end 2013-06-07
  firesteel run  --start 2013-06-01 --end 2013-06-07

\b
Exit codes: 0 success, 1 storage, Spark or internal error, 2 spec or command line, 3 gate failed (nothing published),
            4 input not ready, 5 row-error budget, 6 plan drift, 7 lease conflict, 8 refused by a policy, 130 cancelled.
"""

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENAMETOOLONG}


class Commands(click.Group):
    """A group that imports the module of a command only when the command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of `COMMANDS`: first steps first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the module of a command, and return the command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"firesteel.jobs.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write one line for each command, without importing the modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=Commands, help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(VERSION, prog_name="firesteel")
def cli() -> None:
    """See HELP."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    restart_in_utf8_mode()
    keep_output_open()
    code = invoke(arguments)
    # Python prints a traceback for a SIGINT that arrives while the process exits.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def invoke(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    raise_on_signals()
    args = sys.argv[1:] if arguments is None else arguments
    try:
        end_with_parent()
        check_text(args)
        check_working_directory()
        code: Any = cli.main(args=args, prog_name="firesteel", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - every error becomes a message and an exit code
        return _failed(error, as_json="--json" in args)
    return code if isinstance(code, int) else 0


def _failed(error: BaseException, *, as_json: bool) -> int:
    """Show an error, and return its exit code."""
    if interrupted(error) or isinstance(error, click.Abort):
        click.echo(CANCELLED, err=True)
        return CANCELLED_EXIT
    if isinstance(error, NoArgsIsHelpError):
        error.show()
        return error.exit_code
    if isinstance(error, click.UsageError) and error.ctx is not None and not as_json:
        click.echo(error.ctx.get_usage(), err=True)
    coded = _coded(error)
    if coded.code == "FS9999" and os.environ.get("FIRESTEEL_DEBUG"):
        click.echo("".join(traceback.format_exception(scrub(error))), err=True, nl=False)
    _show_error(coded, as_json=as_json)
    return coded.exit_code


def _coded(error: BaseException) -> FiresteelError:
    """Return the error as a FiresteelError, with a code and a hint."""
    if isinstance(error, FiresteelError):
        return error
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        return SpecError(
            "FS1000",
            _sentence(error.format_message()),
            hint=f"Run `{context.command_path if context else 'firesteel'} --help`.",
        )
    if isinstance(error, OSError) and (error.filename or error.errno in _DISK_ERRORS):
        return file_fault(error)
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # from Path.resolve
        return file_fault(OSError(errno.ELOOP, f"{error}"))
    return RuntimeFault(
        "FS9999",
        f"{type(error).__name__}: {error}",
        hint="Report this bug in firesteel. Set FIRESTEEL_DEBUG=1 to see the traceback.",
    )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _show_error(error: FiresteelError, *, as_json: bool) -> None:
    errors = error.errors if isinstance(error, SpecErrors) else (error,)
    if as_json:
        facts = [item.as_dict() | {"hint": _hint(item)} for item in errors]
        click.echo(json.dumps({"errors": facts, "exit_code": error.exit_code}, indent=2))
        return
    for item in errors:
        code = click.style(item.code, fg="red", bold=True)
        where = f" {item.where} " if item.where else ""
        click.echo(f"{code}{where} {item.what} {click.style(_hint(item), fg='cyan')}".rstrip(), err=True)
    if len(errors) > 1:
        click.echo(f"{len(errors)} errors.", err=True)


def _hint(error: FiresteelError) -> str:
    """Return the hint of the error; without one, the advice of the catalogue for its code."""
    return error.hint or (CODES[error.code].advice if error.code in CODES else "")


if __name__ == "__main__":
    main()
