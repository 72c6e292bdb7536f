"""The spark-submit entry: `spark-submit ... run_plan.py --plan plan.json`. Everything it needs is in the plan.

The exit code is firesteel's. In cluster mode, spark-submit can return 0 for a failed run, so schedulers read `firesteel status`.
With `--submission`, the result is stored for `firesteel submit`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from firesteel.jobs.output import keep_output_open
from firesteel.jobs.utf8 import restart_in_utf8_mode


def main(arguments: list[str] | None = None) -> int:
    """Run the plan and return the exit code."""
    restart_in_utf8_mode()
    keep_output_open()
    parser = argparse.ArgumentParser(prog="run_plan.py", description="Run a firesteel plan inside spark-submit.")
    parser.add_argument("--plan", required=True, type=Path, help="A plan made by `firesteel plan -o plan.json`.")
    parser.add_argument("--run-id", default="", help="The run's id, as `firesteel submit --run-id` registered it.")
    parser.add_argument("--json", action="store_true", help="Print the result as JSON.")
    parser.add_argument(
        "--submission", default="", help="Id of the submission. Store the result under this id (cluster mode)."
    )
    options = parser.parse_args(arguments)
    from firesteel.conf.errors import FiresteelError
    from firesteel.jobs.cli.console import show_result
    from firesteel.jobs.cli.files import read_text
    from firesteel.jobs.cli.run_options import taken_over
    from firesteel.jobs.interrupt import CANCELLED, CANCELLED_EXIT, interrupted, raise_on_signals
    from firesteel.jobs.run.plan_runner import run_plan
    from firesteel.pipelines import Plan

    raise_on_signals()
    try:
        plan = Plan.from_json(read_text(options.plan, "a plan"), options.plan.name)
        with taken_over(plan, options.run_id) as reporter:
            if options.submission:
                from firesteel.jobs.submit.driver import run_submitted

                result = run_submitted(plan, options.submission, run_id=options.run_id)
            else:
                result = run_plan(plan, run_id=options.run_id)
            reporter.result(result, plan)
    except (FiresteelError, KeyboardInterrupt) as error:
        if interrupted(error):
            sys.stderr.write(f"{CANCELLED}\n")
            return CANCELLED_EXIT
        sys.stderr.write(f"{error}\n")
        return error.exit_code if isinstance(error, FiresteelError) else 1
    show_result(result, as_json=options.json)
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())
