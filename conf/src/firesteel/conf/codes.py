"""The catalogue of error codes: the meaning of each code, and what to do about it.

`docs/reference/errors.md` is generated from this table. A test checks that the sources raise exactly these codes.
"""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """The meaning of a code, and the advice for the user."""

    meaning: str
    advice: str


CODES: dict[str, Code] = {
    # command line
    "FS1000": Code("a command-line argument is wrong", "Run the command with --help."),
    # spec
    "FS1001": Code("the spec file cannot be read", "Check the path; a spec is a UTF-8 text file of at most 1 MiB."),
    "FS1002": Code("the file is not valid YAML", "Fix the YAML at the line shown; indent with spaces, not tabs."),
    "FS1003": Code("a key is unknown", "Use the suggested key; docs/reference/spec.md lists all keys."),
    "FS1004": Code(
        "the value of a key has the wrong type or format",
        "Change this value to what the message expects; docs/reference/spec.md describes each key.",
    ),
    "FS1005": Code("a required key is missing", "Add the key."),
    "FS1006": Code("a param has no value", "Pass --param NAME=VALUE, or set a default."),
    "FS1007": Code("a ${...} reference is not defined", "Use one of the defined names."),
    "FS1008": Code(
        "the value of a param has the wrong type, or its `min`, `max` or `choices` exclude it",
        "Pass another value with --param NAME=VALUE, or change the declaration in `params`.",
    ),
    "FS1009": Code("a --param or --profile is not declared in the spec", "Use a declared one, or declare it."),
    "FS1010": Code("a name is used but not defined", "Define it, or use one of the defined names."),
    "FS1011": Code("a mapping has a duplicate key", "Remove one of the two; YAML would silently use the last."),
    "FS1012": Code("the steps form a cycle", "Remove one of the references between the steps."),
    "FS1013": Code("a name is defined twice", "Rename one; sources and steps share one namespace."),
    "FS1014": Code(
        "the requested interval is not valid", "Write --start and --end in the format of the interval's unit."
    ),
    "FS1015": Code("a path leads outside its root", "Write an absolute URI without `..`."),
    "FS1016": Code("a source declares no columns, and --strict requires them", "Declare `contract.columns`."),
    "FS1017": Code(
        "two settings under `resources` conflict",
        "Remove one of the two; the message names both and the reason.",
    ),
    "FS1018": Code(
        "the estimated executor-hours of a plan exceed its limit",
        "Plan fewer intervals, or raise resources.executors.max_executor_hours.",
    ),
    "FS1019": Code(
        "a ${...} reference is used where references are not resolved",
        "Use `${interval.NAME}` only in `select` and in `args` of SQL steps. In SQL, write a :marker and bind it in `args`.",
    ),
    "FS1020": Code(
        "a secret is used in a key that firesteel shows or stores",
        "Use secrets only under `configuration`, `security` and `tracking`.",
    ),
    "FS1021": Code(
        "a setting conflicts with `security: {mode: strict}`", "Change the setting shown, or remove `security`."
    ),
    "FS1022": Code("a Spark setting would lose rows or change values", "Remove the setting shown."),
    "FS1025": Code(
        "two of the sources, sinks and `storage` are the same location or inside one another",
        "Move the location shown to a folder of its own, beside the others.",
    ),
    "FS1090": Code("more than one score step, or more than one sink", "Write one pipeline for each."),
    # tests of a pipeline
    "FS1101": Code("there is no test to run", "Add cases in tests/*.yaml beside the spec, or change the -k filter."),
    "FS1102": Code("a test value does not match the type of its column", "Write a value of the column's type."),
    "FS1103": Code("a test row is in no partition that its interval reads", "Change the row or the interval."),
    "FS1104": Code("a test's data file cannot be read", "Add a .csv, .json or .parquet file beside the test file."),
    "FS1105": Code("a stub has no value for a row", "Add a value for each value of the stub's `by` column."),
    # sql
    "FS2001": Code("SQL does not parse", "Fix the SQL at the position shown; the dialect is Spark SQL."),
    "FS2002": Code("a step is not one SELECT", "Write one SELECT (or WITH ... SELECT)."),
    "FS2003": Code("SQL names a relation that does not exist", "Use a source or a step of this spec."),
    "FS2004": Code(
        "SQL names a column that does not exist", "Use the suggested column, or declare it in the contract."
    ),
    "FS2005": Code("SQL names a :marker that `args` does not bind", "Bind the marker in the step's `args`."),
    "FS2006": Code("the input lacks a required column", "Add it to the previous step, or remove it here."),
    "FS2007": Code("SQL reads data that the spec does not declare", "Declare a source, and use its name."),
    "FS2008": Code("SQL has a result that the plan does not pin", "Write the alternative that the message shows."),
    # model
    "FS3001": Code("the registered model or version does not exist", "Register it, or use an existing one."),
    "FS3002": Code("a feature is missing or has the wrong type", "Add the CAST shown."),
    "FS3003": Code("the model has no signature", "Log the model again with a signature or an input example."),
    "FS3005": Code("the alias does not exist", "Set the alias, or use an existing one."),
    "FS3006": Code("an output mapping does not match the model's output", "See `output` in docs/reference/spec.md."),
    "FS3009": Code(
        "the model's format or a type in it is not trusted",
        "Log the model in a trusted format, or add the format to `trust.formats` or the type to `trust.skops_types`.",
    ),
    "FS3010": Code("the model is larger than trust.max_size", "Raise the limit, or use a smaller model."),
    "FS3011": Code(
        "the model's files differ from the plan's digest, or are links or devices",
        "Plan again; find out who changed the files.",
    ),
    "FS3012": Code("an executor cannot load the model", "Install the packages that the model requires."),
    "FS3013": Code(
        "a package that the model requires is missing or has another major version",
        "Install the package where the model is loaded, log the model again, or set the model's `requirements: warn`.",
    ),
    # input
    "FS4001": Code(
        "a partition is not ready: its marker is missing, or it has no finished file",
        "Wait for the producer, then retry.",
    ),
    "FS4002": Code("a planned input partition is missing", "Wait for the producer, or set `on_missing`."),
    "FS4003": Code("the data does not match the contract", "Fix the data or the contract; nothing was read."),
    "FS4004": Code("a source declares no columns and has no file to infer them from", "Declare `contract.columns`."),
    "FS4005": Code(
        "a directory or file in the selected range does not match the source's partitions",
        "Rename it, move it, or correct `partitions`; nothing was read.",
    ),
    "FS4006": Code(
        "the storage has no checksum of an input file, and its source has `verify: checksum`",
        "Set `verify: sha256`.",
    ),
    "FS4007": Code(
        "a source with `select: latest` has no partition at or before the interval, or only older ones than `max_age`",
        "Write the partition, raise `max_age`, or set `on_missing`.",
    ),
    "FS4008": Code(
        "rows of an input file cannot be parsed",
        "Fix the file or the declared types, or set `on_error: {action: quarantine}` on the source; nothing was published.",
    ),
    # scoring
    "FS5001": Code("a row failed to score, and on_error is `fail`", "Fix the row, or set on_error: dead_letter."),
    "FS5002": Code("the model's output does not match the declaration", "Correct `output`."),
    "FS5003": Code(
        "more rows failed to score than `on_error` allows",
        "Read the first error, and fix the rows or the model; nothing was published.",
    ),
    "FS5004": Code("the dead letters lack a column that the spec needs", "Run the interval again with --force."),
    "FS5005": Code("all dead letters failed again", "Fix the model or its dependencies; the dead letters stay open."),
    "FS5006": Code("a challenger was disabled", "Fix the challenger; the champion's scores are complete."),
    # drift
    "FS6001": Code(
        "input files of an interval were added, deleted or changed after the plan was made",
        "Run `firesteel plan` again, and apply the new plan; nothing was published.",
    ),
    "FS6002": Code("the model or the alias changed after the plan was made", "Run `plan` again, or pin the version."),
    "FS6003": Code("another major version of firesteel made the plan", "Run `plan` again."),
    "FS6004": Code("there is no unfinished backfill of this range", "Run without --resume to start one."),
    "FS6005": Code("a plan file was edited or damaged, or a stored plan does not match the spec", "Run `plan` again."),
    "FS6006": Code("another version was published after the plan was made", "Run `plan` again."),
    # gates and publish
    "FS7001": Code("a critical expectation failed", "Read the report; nothing was published."),
    "FS7002": Code(
        "the row counts do not add up", "Compare rows_in with scored + dead_letter + quarantined + dropped."
    ),
    "FS7003": Code(
        "an expectation of a gate cannot be evaluated",
        "Correct the type, the arguments or the column of the expectation that the message names.",
    ),
    "FS7004": Code(
        "an expectation cannot exclude rows",
        "Use `quarantine` and `drop` only for conditions on one row, before the score.",
    ),
    "FS7005": Code(
        "an interval would publish fewer rows than its sink allows",
        "Check filters, gates and dead letters; if the count is right, set `on_empty: allow` or lower `min_rows`.",
    ),
    "FS7006": Code(
        "a published interval is suspect: changed gates fail on its rows",
        "Correct the gate, publish the interval again, or roll it back.",
    ),
    "FS7501": Code("another driver holds the lease", "Wait for that run, or cancel it; this run changed nothing."),
    "FS7502": Code("another driver took over the lease", "Use the other run's result; this driver was too slow."),
    "FS7503": Code("the run was cancelled", "Start a new run; unpublished intervals were discarded."),
    "FS7504": Code("the run to cancel holds no interval", "Check with `firesteel history` whether it has ended."),
    "FS7505": Code("a run with this id is already registered", "Use a new run id for each start."),
    "FS7601": Code("a policy does not allow this user to publish to the sink", "Ask the owner of the policy shown."),
    "FS7602": Code("a policy file is not valid, so nobody may publish", "Fix the file shown."),
    "FS7603": Code("a policy requires strict security, and the plan lacks it", "Set `security: {mode: strict}`."),
    "FS7604": Code(
        "a publish must be signed, and has no key or another key",
        "Set `security.signing_key`, or ask the owner of the policy; see docs/how-to/sign.md.",
    ),
    "FS7605": Code(
        "a plan must be signed, by a key of a policy or of the spec, and is not",
        "Run `firesteel plan -o` again with `security.signing_key`.",
    ),
    # storage
    "FS8001": Code("the storage cannot be reached", "Check the address, HADOOP_CONF_DIR and the NameNodes."),
    "FS8002": Code("the storage refused the operation", "Check the owner and mode of the path shown."),
    "FS8003": Code("the path does not exist", "Check the path."),
    "FS8004": Code("the path already exists", "Run `firesteel recover`; two writers used the same path."),
    "FS8005": Code("the URI scheme is not supported", "Use hdfs:// or file://."),
    "FS8006": Code(
        "a stored record or a staged file cannot be read", "Restore or move the file; it is truncated or was edited."
    ),
    "FS8007": Code("staged files are outside the planned partitions", "Filter the step to the rows of its interval."),
    "FS8008": Code(
        "the sink and `storage` are in different file systems",
        "Put both in one file system; a rename cannot cross file systems.",
    ),
    "FS8010": Code("a rollback has no version to restore", "List published versions with `firesteel history`."),
    "FS8011": Code("an interval is incomplete", "Run `firesteel recover`, then read again."),
    "FS8012": Code(
        "the sink or the storage belongs to another pipeline, profile or storage",
        "Use another path, or run `firesteel recover --take-ownership`.",
    ),
    "FS8013": Code("files of an appended interval are missing", "Restore them, or roll back the interval."),
    "FS8014": Code("a partition belongs to another interval", "Select partitions that differ for each interval."),
    # runtime
    "FS9001": Code("no usable JDK", "Install JDK 17 and set JAVA_HOME."),
    "FS9002": Code("Spark did not start, or the job failed", "Read the cause in the driver's log."),
    "FS9003": Code("MLflow cannot be reached", "Check the tracking URI."),
    "FS9004": Code("a package is missing", "Install the extra shown."),
    "FS9005": Code("a service of an embedded cluster did not start", "Read the log shown."),
    "FS9006": Code(
        "the jar of the shuffle plugin is missing", "Install the wheel, or fix the errors that javac reports."
    ),
    "FS9007": Code(
        "Spark cannot listen on a port or an address",
        "Choose a free port, or an address of this machine, as the hint says.",
    ),
    "FS9008": Code(
        "a local file or folder cannot be used", "Check that the path exists and that this user has access to it."
    ),
    "FS9011": Code(
        "a run reached its limit of executor-hours",
        "Raise resources.executors.max_executor_hours, and run the same range again.",
    ),
    "FS9020": Code("a secret is not found", "Store it in one of the places shown; see docs/how-to/secrets.md."),
    "FS9021": Code("a secret cannot be used", "Fix its file, its source or its value, as the message says."),
    "FS9022": Code("an existing session lacks a secret setting", "Set it where the session is created."),
    "FS9030": Code("a plan cannot be submitted with these options", "Change the option shown."),
    "FS9031": Code("an application ended before it published all intervals", "Read the driver's log."),
    "FS9032": Code("a Python environment cannot be packed", "Fix or remove the package shown."),
    "FS9033": Code("a plan cannot be written for Kubernetes", "Add the setting shown."),
    "FS9034": Code(
        "MLflow rejects the credentials (401)",
        "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.",
    ),
    "FS9035": Code(
        "MLflow forbids a request (403)",
        "Ask the owner of the experiment or model for the permission: EDIT to record runs, READ to use a model.",
    ),
    "FS9036": Code(
        "the certificate of the MLflow server is not trusted, or a certificate file is missing",
        "Set REQUESTS_CA_BUNDLE to the file of the certificate authority.",
    ),
    "FS9037": Code(
        "the server at the tracking URI is not an MLflow server",
        "Check the address, its port and its path. Behind a login page, set MLFLOW_TRACKING_TOKEN.",
    ),
    "FS9040": Code("required lineage cannot be sent", "Check the address and the token; nothing was read."),
    "FS9041": Code(
        "a session is less secure than the plan requires", "Create it with the settings shown, or pass no session."
    ),
    "FS9042": Code(
        "the Spark context has a setting that loses rows or changes values", "Remove it where Spark is configured."
    ),
    "FS9101": Code(
        "the shuffle service lacks a block", "Check for a restart or a removed folder; Spark recomputes the block."
    ),
    "FS9102": Code(
        "another node's shuffle service cannot be reached", "Check that it runs, its port and its host name."
    ),
    "FS9103": Code("a shuffle request timed out", "Check the service's status; raise the timeout, or reduce the load."),
    "FS9104": Code("shuffle data does not match its checksum", "Check the disk of the node shown."),
    "FS9105": Code("a limit of the shuffle service is reached", "Raise the limit shown, or free space."),
    "FS9106": Code(
        "the shuffle service does not know the application", "Claim it first; it may have ended or expired."
    ),
    "FS9107": Code("the shuffle service refused the request", "Check the secret, the user and the path."),
    "FS9108": Code("a frame of the shuffle protocol is not valid", "Use the same version of plugin and service."),
    "FS9109": Code("the shuffle service cannot start with these options", "Change the option shown; see --help."),
    "FS9110": Code(
        "the rdma shuffle is not available", "Start firesteel-shuffled on the nodes, or set fallback: sort."
    ),
    "FS9111": Code(
        "RDMA verbs are not available on this node", "Run `firesteel doctor --rdma`; blocks use TCP until then."
    ),
    "FS9999": Code("an internal error of firesteel", "Set FIRESTEEL_DEBUG=1 to print the traceback, and report it."),
}
