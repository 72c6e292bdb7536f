"""`firesteel`: the group of verbs, and what becomes of errors."""

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
from firesteel.jobs.cli.output import keep_output_open
from firesteel.jobs.cli.parent import end_with_parent
from firesteel.jobs.interrupt import CANCELLED, CANCELLED_EXIT, end_politely, interrupted
from firesteel.jobs.utf8 import in_utf8

VERBS = {
    "init": ("init", "Start a project; `--demo flights` with real data and a trained model."),
    "validate": ("spec", "Check a spec: no JVM, no data, all errors at once."),
    "plan": ("plan", "Show what a run would do and why; `-o` writes the plan."),
    "explain": ("explain", "Draw a pipeline: what is read, scored and published, and why so."),
    "diff": ("explain", "Say what changed between two specs or plans, and which intervals that touches."),
    "run": ("run", "Plan and execute: score, gate, publish, track."),
    "backfill": ("backfill", "Score a long range by one pinned plan; `--resume` after a kill."),
    "apply": ("run", "Execute exactly the plan in a file."),
    "test": ("test", "Run the cases beside a spec: rows in, rows out, on a local Spark."),
    "submit": ("submit", "Print or run the spark-submit line of a plan."),
    "pack": ("pack", "Pack this Python environment for `submit --archive`."),
    "status": ("ledger", "The newest attempt at each interval: published, failed or died."),
    "history": ("ledger", "Every attempt, newest first."),
    "standing": ("standing", "What stands of some intervals, and who works on them: for schedulers."),
    "report": ("report", "Where the page of a run lies."),
    "data-docs": ("data_docs", "What the gates of a run found, as Great Expectations' Data Docs."),
    "recover": ("ledger", "Finish or discard what a dead run left."),
    "rollback": ("undo", "Bring back what an interval was before its newest publish."),
    "cancel": ("undo", "Stop a run: nothing of what it is at work on is published."),
    "quarantine": ("quarantine", "Rows that gates kept from being scored: `ls`."),
    "dead-letter": ("dead_letter", "Rows that could not be scored: `ls`, and `replay` once the cause is mended."),
    "audit": ("audit", "Who published what: `ls`, and `verify` that nobody changed the log."),
    "doctor": ("doctor", "Look at Java, Python, HDFS, MLflow and RDMA, and say what to do."),
    "schema": ("spec", "Print the JSON Schema of a spec, for editors."),
}

HELP = """Batch inference on Spark as one transaction: plan, score, audit, publish.

A pipeline is a YAML spec. `plan` pins its inputs and the model's bytes, `run` scores them, holds the result
against gates while nobody can see it, and publishes whole partitions or nothing.

\b
First steps:
  firesteel init --demo flights demo && cd demo
  firesteel validate
  firesteel test
  firesteel plan --start 2013-06-01 --end 2013-06-07
  firesteel run  --start 2013-06-01 --end 2013-06-07

\b
Exit codes: 0 ok, 1 internal, 2 spec, 3 gate failed (nothing published), 4 input not ready,
            5 row-error budget, 6 plan drift, 7 lease conflict, 8 refused by a policy, 130 cancelled.
"""


_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENAMETOOLONG}


class Verbs(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order in which people meet them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the verb's module."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"firesteel.jobs.cli.{VERBS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """One line a verb, without importing any."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


@click.group(cls=Verbs, help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION, prog_name="firesteel")
def cli() -> None:
    """See HELP."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    in_utf8()
    keep_output_open()
    code = invoke(arguments)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # the process ends: Python would print a trace for a signal from here on
    sys.exit(code)


def invoke(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    end_politely()
    words = sys.argv[1:] if arguments is None else arguments
    try:
        end_with_parent()
        check_text(words)
        check_working_directory()
        code: Any = cli.main(args=words, prog_name="firesteel", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last line of defence: shown, and the exit code says so
        return _failed(error, as_json="--json" in words)
    return code if isinstance(code, int) else 0


def _failed(error: BaseException, *, as_json: bool) -> int:
    """Show an error; its exit code."""
    if interrupted(error) or isinstance(error, click.Abort):
        click.echo(CANCELLED, err=True)
        return CANCELLED_EXIT
    if isinstance(error, NoArgsIsHelpError):
        error.show()
        return error.exit_code
    if isinstance(error, click.UsageError) and error.ctx is not None and not as_json:
        click.echo(error.ctx.get_usage(), err=True)
    ours = _as_ours(error)
    if ours.code == "FS9999" and os.environ.get("FIRESTEEL_DEBUG"):
        click.echo("".join(traceback.format_exception(scrub(error))), err=True, nl=False)
    _show_error(ours, as_json=as_json)
    return ours.exit_code


def _as_ours(error: BaseException) -> FiresteelError:
    """The error with a code and a hint, whatever raised it."""
    if isinstance(error, FiresteelError):
        return error
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        return SpecError(
            "FS1000",
            _sentence(error.format_message()),
            hint=f"Run `{context.command_path if context else 'firesteel'} --help`.",
        )
    if isinstance(error, OSError) and (error.filename or error.errno in _OF_THE_DISK):
        return file_fault(error)
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # pathlib's own, from Path.resolve
        return file_fault(OSError(errno.ELOOP, f"{error}"))
    return RuntimeFault(
        "FS9999",
        f"{type(error).__name__}: {error}",
        hint="This is a fault in firesteel. Set FIRESTEEL_DEBUG=1 to see the trace, and report it.",
    )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _show_error(error: FiresteelError, *, as_json: bool) -> None:
    errors = error.errors if isinstance(error, SpecErrors) else (error,)
    if as_json:
        facts = [each.as_dict() | {"hint": _hint(each)} for each in errors]
        click.echo(json.dumps({"errors": facts, "exit_code": error.exit_code}, indent=2))
        return
    for each in errors:
        code = click.style(each.code, fg="red", bold=True)
        where = f" {each.where} " if each.where else ""
        click.echo(f"{code}{where} {each.what} {click.style(_hint(each), fg='cyan')}".rstrip(), err=True)
    if len(errors) > 1:
        click.echo(f"{len(errors)} errors.", err=True)


def _hint(error: FiresteelError) -> str:
    """What to do about an error: its own hint, or else the catalogue's advice for its code."""
    return error.hint or (CODES[error.code].advice if error.code in CODES else "")


if __name__ == "__main__":
    main()
