"""The catalogue of error codes: one line of meaning and one of advice for each.

`docs/reference/errors.md` is generated from this table, and a test holds that no code is raised that is not here.
"""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """What a code means and what to do about it."""

    meaning: str
    advice: str


CODES: dict[str, Code] = {
    # the command line
    "FS1000": Code("an argument of the command line is wrong", "Run the command with --help."),
    # spec
    "FS1001": Code("the spec file cannot be read", "Check the path; a spec is a UTF-8 text file of at most 1 MiB."),
    "FS1002": Code("the file is not valid YAML", "Mend the YAML at the place named; tabs cannot indent."),
    "FS1003": Code("a key is unknown", "Use the key that is suggested, or look it up in docs/reference/spec.md."),
    "FS1004": Code("a value has the wrong type or form", "Give a value of the form named."),
    "FS1005": Code("a required key is missing", "Add the key."),
    "FS1006": Code("a param has no value", "Pass --param NAME=VALUE, or give it a default."),
    "FS1007": Code("a ${...} reference is not defined", "Use one of the names that exist."),
    "FS1008": Code("a param's value is out of range or of the wrong type", "Pass a value within the declared range."),
    "FS1009": Code("a --param or --profile is not declared", "Use one that the spec declares."),
    "FS1010": Code("a name is used but not defined", "Define it, or use one of the names that exist."),
    "FS1011": Code("a key stands twice in one mapping", "Keep one; YAML would silently keep the last."),
    "FS1012": Code("the steps form a cycle", "Break the cycle; steps are views over sources and other steps."),
    "FS1013": Code("two things share one name", "Sources and steps share one name space; rename one."),
    "FS1014": Code("the interval asked for is wrong", "Give --start and --end as the interval's unit needs them."),
    "FS1015": Code("a path leaves the place it belongs to", "Write an absolute URI without `..`."),
    "FS1016": Code("a source declares no columns, and --strict wants them", "Declare `contract.columns`."),
    "FS1017": Code(
        "two settings of resources contradict each other",
        "Keep the one that you mean; the other is named with the reason.",
    ),
    "FS1018": Code(
        "the plan would cost more executor-hours than it may",
        "Plan fewer intervals, or raise resources.executors.max_executor_hours.",
    ),
    "FS1019": Code(
        "a ${...} reference stands where it is not resolved",
        "`${interval.NAME}` may stand in `select` and in `args` of SQL steps. In SQL write a :marker, and bind it in `args`.",
    ),
    "FS1020": Code("a secret stands where it would be seen", "Use it under `configuration`, `security` or `tracking`."),
    "FS1021": Code("something contradicts `security: {mode: strict}`", "Mend what is named, or leave `security` out."),
    "FS1022": Code("a Spark setting would lose rows or change values", "Remove the setting that is named."),
    "FS1090": Code("more than one score step, or more than one sink", "Write a pipeline for each."),
    # tests of a pipeline
    "FS1101": Code("there is no test to run", "Put cases into tests/*.yaml beside the spec; mind -k."),
    "FS1102": Code("a value of a test does not fit its column", "Write a value of the column's type."),
    "FS1103": Code("a test's row is in no partition that its interval reads", "Mend the row or the interval."),
    "FS1104": Code("a test's data file cannot be read", "Give a .csv, .json or .parquet file beside the test file."),
    "FS1105": Code("a stub has no value for a row", "Give it one for each value of its `by` column."),
    # sql
    "FS2001": Code("SQL does not parse", "Mend it at the place named; the dialect is Spark SQL."),
    "FS2002": Code("a step is not one SELECT", "A step is a view: one SELECT (or WITH ... SELECT)."),
    "FS2003": Code("SQL names a relation that does not exist", "Use a source or a step of this spec."),
    "FS2004": Code("SQL names a column that does not exist", "Use the closest name, or declare it in the contract."),
    "FS2005": Code("SQL names a :marker that args do not bind", "Bind it under the step's args."),
    "FS2006": Code("a column is needed that the input does not give", "Add it to the step before, or drop it here."),
    # model
    "FS3001": Code("no such registered model or version", "Register it, or use one of those that exist."),
    "FS3002": Code("a feature is missing or has the wrong type", "Add the CAST that is named."),
    "FS3003": Code("the model has no signature", "Log it again with a signature or an input example."),
    "FS3005": Code("no such alias", "Set the alias, or use one of those that exist."),
    "FS3006": Code("an output mapping does not fit the model's output", "See `output` in docs/reference/spec.md."),
    "FS3009": Code("the model's format is not trusted", "Log it again in a trusted format, or list the format."),
    "FS3010": Code("the model is larger than trust.max_size", "Raise the limit if this is the model you mean."),
    "FS3011": Code("the model's bytes are not the bytes of the plan", "Plan again; find out who changed the files."),
    "FS3012": Code("the model cannot be loaded on the executors", "Install the packages that its requirements name."),
    # input
    "FS4001": Code(
        "a partition is not ready: its marker is missing, or no file of it is finished",
        "Wait for the producer; safe to retry.",
    ),
    "FS4002": Code("a planned input partition is missing", "Wait for the producer, or set on_missing."),
    "FS4003": Code("the data does not fit the contract", "Mend the data or the contract; nothing was read."),
    "FS4004": Code("a source declares no columns, and has no file to find them in", "Declare `contract.columns`."),
    "FS4005": Code(
        "a directory or file in the selected range does not fit the source's partitions",
        "Rename it, move it away, or correct `partitions`; nothing was read.",
    ),
    # scoring
    "FS5001": Code("a row failed to score, and on_error is `fail`", "Mend the row, or set on_error: dead_letter."),
    "FS5002": Code("the model returned something else than declared", "Mend `output` to fit the model."),
    "FS5003": Code("more rows failed to score than on_error allows", "Look at the first error; nothing was published."),
    "FS5004": Code("dead letters lack a column that is needed now", "Run the interval again with --force."),
    "FS5005": Code("all dead letters failed again", "Mend the model or what it calls; they stay open."),
    "FS5006": Code("a challenger was given up", "Mend it; the champion's rows are whole."),
    # drift
    "FS6001": Code("an input partition changed since the plan was made", "Run `plan` again."),
    "FS6002": Code("the model or the alias moved since the plan was made", "Run `plan` again, or pin the version."),
    "FS6003": Code("the plan was made by another major version", "Run `plan` again."),
    "FS6004": Code("there is no unfinished backfill of this range", "Leave --resume out to begin one."),
    # gates and publish
    "FS7001": Code("a critical expectation failed", "Look at the report; nothing was published."),
    "FS7002": Code("rows do not add up", "rows_in = scored + dead_letter + quarantined + dropped did not hold."),
    "FS7003": Code("an expectation could not be evaluated", "Check its type, its arguments and its column."),
    "FS7004": Code(
        "an expectation cannot exclude rows", "Quarantine and drop need a condition on a row, before the score."
    ),
    "FS7005": Code(
        "an interval would publish fewer rows than its sink allows",
        "Look at filters, gates and dead letters; set `on_empty: allow` or a lower `min_rows` if it is right.",
    ),
    "FS7501": Code("another driver holds the lease", "Wait for it, or cancel it; this run did nothing."),
    "FS7502": Code("the lease was taken over", "This driver was too slow; the other one's result stands."),
    "FS7503": Code("the run was cancelled", "Somebody called `firesteel cancel`; nothing of it was published."),
    "FS7504": Code("the run to cancel holds no interval", "See `firesteel history`; it may be over."),
    "FS7505": Code("a run of that id was registered already", "Give each start an id of its own."),
    "FS7601": Code("a policy does not let this user publish there", "Ask whoever keeps the policy that is named."),
    "FS7602": Code("a policy cannot be used, and nobody may publish", "Mend the file that is named."),
    "FS7603": Code("a policy requires security that the plan does not have", "Set `security: {mode: strict}`."),
    # storage
    "FS8001": Code("the storage cannot be reached", "Check the address, HADOOP_CONF_DIR and the NameNodes."),
    "FS8002": Code("the storage refused", "Check owner and mode of the path named."),
    "FS8003": Code("no such path", "Check the path."),
    "FS8004": Code("the path exists already", "Two writers met; run `firesteel recover`."),
    "FS8005": Code("the URI scheme is not supported", "Use hdfs:// or file://."),
    "FS8006": Code(
        "a stored record or a staged file cannot be read", "It was cut or changed by hand; restore it or move it away."
    ),
    "FS8007": Code("staged files lie outside the planned partitions", "The data does not belong to this interval."),
    "FS8008": Code("the sink and `storage` are in two storages", "Put both under one authority: renames cannot cross."),
    "FS8010": Code("a rollback has nothing to bring back", "See `firesteel history` for what was published."),
    "FS8011": Code("an interval is not there as a whole", "Run `firesteel recover`, then read again."),
    # runtime
    "FS9001": Code("no usable JDK", "Install JDK 17 and set JAVA_HOME."),
    "FS9002": Code("Spark did not start, or the job died", "Look at the driver's log for the cause named."),
    "FS9003": Code("MLflow cannot be reached", "Check the tracking URI."),
    "FS9004": Code("a package is missing", "Install the extra that is named."),
    "FS9005": Code("a part of an embedded cluster did not start", "Look at the log that is named."),
    "FS9006": Code(
        "the jar of the shuffle plugin is not there", "Install the wheel, or mend the sources as javac says."
    ),
    "FS9007": Code(
        "Spark cannot listen on a port or an address",
        "Choose a free port, or an address of this machine, as the hint says.",
    ),
    "FS9008": Code(
        "a file or folder of this machine cannot be used", "Check that the path exists and that this user may use it."
    ),
    "FS9011": Code(
        "a run has cost as many executor-hours as it may",
        "Raise resources.executors.max_executor_hours, and run the same range again.",
    ),
    "FS9020": Code("a secret is not found", "Put it into one of the places named; see docs/how-to/secrets.md."),
    "FS9021": Code("a secret cannot be used", "Mend what is named: its file, its source, or its value."),
    "FS9022": Code("a secret setting does not reach the session", "Set it where the session is made."),
    "FS9030": Code("a plan cannot be submitted as asked", "Mend the option that is named."),
    "FS9031": Code(
        "an application ended and the ledger does not hold what it was to publish", "Look at the driver's log."
    ),
    "FS9032": Code("a Python environment cannot be packed", "Mend what is named, or leave that package out."),
    "FS9033": Code("a plan cannot be written for Kubernetes", "Give what is named."),
    "FS9040": Code("lineage is required and cannot be sent", "Check the address and the token; nothing was read."),
    "FS9041": Code("a session is not as secure as the plan asks", "Make it with the settings named, or pass none."),
    "FS9042": Code("the Spark context has a setting that loses rows", "Remove it where Spark is configured."),
    "FS9101": Code(
        "the shuffle service does not have a block", "Spark computes it again; look for a restart or a removed folder."
    ),
    "FS9102": Code("another node's shuffle service cannot be reached", "Check that it runs, its port and its names."),
    "FS9103": Code(
        "a shuffle request took too long", "Look at the service's status; raise the time, or lower the load."
    ),
    "FS9104": Code("shuffle data does not fit its checksum", "Look at the disk of the node that is named."),
    "FS9105": Code("a limit of the shuffle service is reached", "Raise the limit named, or free space."),
    "FS9106": Code(
        "the shuffle service does not know the application", "Claim it first; it may have ended or expired."
    ),
    "FS9107": Code("the shuffle service refused", "Check the secret, the user and the path."),
    "FS9108": Code("bytes that are no frame of the shuffle protocol", "Use the same version of plugin and service."),
    "FS9109": Code("the shuffle service cannot start as configured", "Mend the option named; --help lists all."),
    "FS9110": Code("the rdma shuffle cannot be had", "Start firesteel-shuffled on the nodes, or set fallback: sort."),
    "FS9111": Code(
        "RDMA verbs cannot be used here", "Blocks go by TCP; `firesteel doctor --rdma` says what is missing."
    ),
    "FS9999": Code("a fault in firesteel itself", "Please report it with the trace that FIRESTEEL_DEBUG=1 shows."),
}
