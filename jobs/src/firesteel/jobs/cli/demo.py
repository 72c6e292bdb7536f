"""Run the flights demo on an embedded HDFS: `python -m firesteel.jobs.cli.demo`.

The demo stores its data below the temporary directory, and the next run skips completed steps.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from firesteel.conf.errors import FiresteelError
from firesteel.conf.private_folder import private_folder
from firesteel.jobs.interrupt import raise_on_signals
from firesteel.jobs.output import keep_output_open
from firesteel.jobs.utf8 import restart_in_utf8_mode


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and return firesteel's exit code."""
    restart_in_utf8_mode()
    keep_output_open()
    default = Path(tempfile.gettempdir(), f"firesteel-demo-{os.getuid()}")
    parser = argparse.ArgumentParser(
        prog="python -m firesteel.jobs.cli.demo", description="Score a week of flights on a real HDFS."
    )
    parser.add_argument("--folder", type=Path, default=default, help=f"Folder of all files. Default: {default}.")
    parser.add_argument("--start", default="2013-06-01", help="First day.")
    parser.add_argument("--end", default="2013-06-07", help="Last day (inclusive).")
    options = parser.parse_args(arguments)
    raise_on_signals()
    try:
        return _demo(_demo_folder(options.folder), options.start, options.end)
    except FiresteelError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. Run the demo again to continue.\n")
        return 130


def _demo_folder(folder: Path) -> Path:
    try:
        return private_folder(folder).resolve()
    except OSError as error:
        raise FiresteelError(
            "FS9008",
            f"the demo cannot use its folder {folder}: {error}",
            hint="Pass another folder with --folder.",
        ) from error


def _demo(folder: Path, start: str, end: str) -> int:
    from firesteel.jobs.cli.main import invoke
    from firesteel.jobs.embedded.hdfs import EmbeddedHdfs
    from firesteel.jobs.project.create import create_flights

    project = folder / "project"
    project.mkdir(exist_ok=True)
    _say(f"1/4 HDFS: one NameNode and two DataNodes, data in {folder / 'hdfs'}")
    with EmbeddedHdfs(folder / "hdfs", datanodes=2) as hdfs:
        os.environ["HADOOP_CONF_DIR"] = str(hdfs.conf_dir)
        _say(f"    {hdfs.uri}  ({hdfs.webhdfs_url})")
        _say("2/4 Data and model")
        create_flights(project, f"{hdfs.uri}/demo", say=lambda text: _say(f"    {text}"))
        os.chdir(project)
        _say(f"3/4 firesteel plan --start {start} --end {end}")
        if code := invoke(["plan", "--start", start, "--end", end]):
            return code
        _say(f"4/4 firesteel run --start {start} --end {end}")
        code = invoke(["run", "--start", start, "--end", end])
    _say(f"HDFS is stopped. Its data stays in {folder}: `make demo` uses it again, `make demo-clean` deletes it.")
    return code


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
