"""SQL reads only the sources and steps of its spec, and gives the same rows in every run of a plan: a cause of false lineage and hashes."""

from __future__ import annotations

import contextlib
import random

import pytest

from firesteel.conf.errors import RuntimeFault, SpecErrors, SqlError, Where
from firesteel.jobs.spark.lower import make_view, relations_read
from firesteel.jobs.spark.session import DEFAULTS, activated, check_language, open_session
from firesteel.pipelines import Pipeline
from firesteel.pipelines.plan.model import Column, IntervalPlan, SqlStepPlan
from firesteel.pipelines.plan.settings import ANSI, TIME_ZONE
from firesteel.pipelines.sql.hermetic import outside_errors, unpinned_errors
from firesteel.pipelines.sql.select import ParsedSelect, SqlText, analyze_select, parse_select
from support.sample_run import sample_plan
from support.specs import FixedBackend, example_with

pytestmark = pytest.mark.integration

EVENTS = (Column("a", "int"), Column("b", "string"), Column("xs", "array<int>"))
USERS = (Column("a", "int"), Column("c", "double"))
RELATIONS = {"events": EVENTS, "users": USERS}

OUTSIDE = [
    "SELECT * FROM other.events",
    "SELECT * FROM spark_catalog.other.events",
    "SELECT * FROM a.b.c.events",
    "SELECT * FROM `other`.`events`",
    "SELECT * FROM global_temp.events",
    "SELECT * FROM session.events",
    "SELECT * FROM parquet.`/x`",
    "SELECT * FROM binaryFile.`/etc/passwd`",
    "SELECT * FROM range(3)",
    "SELECT * FROM explode(array(1))",
    "SELECT * FROM events, LATERAL range(3)",
    "SELECT * FROM events LATERAL VIEW python_udtf(a) t AS z",
    "SELECT * FROM IDENTIFIER('other.events')",
    "SELECT * FROM IDENTIFIER(:name)",
    "SELECT * FROM f(TABLE(events))",
    "SELECT * FROM (TABLE users)",
    "SELECT * FROM STREAM events",
    "SELECT * FROM events VERSION AS OF 1",
    "SELECT * FROM events TIMESTAMP AS OF '2024-01-01'",
    "SELECT * FROM events@v1",
    "FROM other.events |> WHERE a > 1",
    "SELECT (SELECT max(a) FROM other.t) AS m FROM events",
    "SELECT a FROM events WHERE a IN (SELECT a FROM other.t)",
    "WITH events AS (SELECT 1 AS a) SELECT * FROM other.events",
    "SELECT TRANSFORM (a) USING 'cat' AS (b) FROM events",
    "SELECT mine.f(a) FROM events",
    "SELECT system.builtin.rand() FROM events",
    "SELECT a FROM events --\\\n JOIN users USING (a)",
    "SELECT from_xml(b, 'a int', map('rowValidationXSDPath', '/x.xsd')) AS v FROM events",
    "SELECT from_xml(b, 'a int', map('mode', 'FAILFAST', 'ROWVALIDATIONXSDPATH', '/x.xsd')) AS v FROM events",
    "SELECT from_xml(b, 'a int', map(concat('rowValidation', 'XSDPath'), '/x.xsd')) AS v FROM events",
    "SELECT schema_of_xml('<a/>', map('rowValidationXSDPath', '/x.xsd')) AS v FROM events",
    "SELECT from_avro(b, '\"int\"', map('avroSchemaUrl', '/x.avsc')) AS v FROM events",
    "SELECT from_protobuf(b, 'm', '/x.desc') AS v FROM events",
    "SELECT to_protobuf(b, 'm', '/x.desc') AS v FROM events",
]
UNPINNED = [
    "rand()", "RAND(3)", "`rand`()", "rand /* a */ ()", "uuid()", "now()", "current_date", "current_timestamp", "current_timestamp()",
    "current_user", "unix_timestamp()", "date 'today'", "timestamp'now'", "TIMESTAMP_NTZ ' Yesterday UTC'", "shuffle(xs)", "version()",
    "reflect('java.lang.System', 'nanoTime')", "aes_encrypt(b, 'k')", "a + cast(rand() * 3 AS int)", "r'\\', rand(), r'\\'",
    "cast('today' AS date)", "CAST(('now') AS TIMESTAMP)", "to_date('Tomorrow')", "to_timestamp(' now UTC')", "'today'::date", "date_add('today', 1)",
    "date '\x01today'", "try_cast('yesterday' AS timestamp_ntz)", "datediff('today', b)",
]  # fmt: skip
PINNED = [
    "'rand()'", "`a`", "b /* rand() */", "unix_timestamp(b)", "date '2024-01-01'", "date 'epoch'", "aes_encrypt(b, 'k', 'GCM', 'DEFAULT', b)",
    "xxhash64(a)", "from_xml(b, 'a int', map('mode', 'FAILFAST', 'rowTag', 'a'))", "b = 'today'", "if(a > 0, 'now', 'later')",
    "b IN ('today', 'tomorrow')", "to_date(b)", "cast('todays' AS date)", "collect_list(a)", "row_number() OVER (ORDER BY a)", "current_timezone()", "a AS random", "a AS now",
]  # fmt: skip


def parsed(sql: str) -> ParsedSelect:
    return parse_select(SqlText(sql, Where("step.sql"), in_file=True))


@pytest.mark.parametrize("sql", OUTSIDE)
def test_sql_that_reads_anything_but_a_declared_relation_is_refused(sql):
    errors = outside_errors(parsed(sql))
    assert errors
    assert all(error.code == "FS2007" and error.hint for error in errors)


@pytest.mark.parametrize("value", UNPINNED)
def test_a_value_that_another_run_computes_differently_is_refused_with_the_pinned_one(value):
    errors = unpinned_errors(parsed(f"SELECT {value} AS v FROM events"))
    assert errors or outside_errors(parsed(f"SELECT {value} AS v FROM events"))
    assert all(error.code == "FS2008" and error.hint for error in errors)


@pytest.mark.parametrize("value", PINNED)
def test_ordinary_sql_is_accepted(value):
    select = parsed(f"SELECT {value} FROM events")
    assert not outside_errors(select) + unpinned_errors(select)


def test_samples_are_refused_with_and_without_a_seed():
    for sample in ("(10 PERCENT)", "(10 PERCENT) REPEATABLE (1)", "(5 ROWS)", "(BUCKET 1 OUT OF 3)"):
        (error,) = unpinned_errors(parsed(f"SELECT a FROM events TABLESAMPLE {sample}"))
        assert (error.code, "xxhash64" in error.hint) == ("FS2008", True)


def test_validate_refuses_both_at_their_line(tmp_path):
    path = example_with(tmp_path, {}, sql={"SELECT": "SELECT rand() AS lucky,"})
    with pytest.raises(SpecErrors) as caught:
        Pipeline.load(path, params={"root": f"file://{tmp_path}"}, backend=FixedBackend())
    assert {error.code for error in caught.value.errors} == {"FS2008"}
    path = example_with(tmp_path / "qualified", {}, sql={"FROM ": "FROM other."})
    with pytest.raises(SpecErrors) as caught:
        Pipeline.load(path, params={"root": f"file://{tmp_path}"}, backend=FixedBackend())
    assert {error.code for error in caught.value.errors} == {"FS2007"}
    assert all(":" in str(error.where) for error in caught.value.errors)


def _call(name: str) -> ParsedSelect:
    """A SELECT that calls a function with as many arguments as sqlglot accepts."""
    for args in ("a, b", "a"):
        with contextlib.suppress(SqlError):
            return parsed(f"SELECT {name}({args}) AS v FROM events")
    return parsed(f"SELECT {name}() AS v FROM events")


def test_every_function_that_spark_calls_nondeterministic_is_refused(spark):
    loader = spark._jsparkSession.getClass().getClassLoader()
    base = loader.loadClass("org.apache.spark.sql.catalyst.expressions.Nondeterministic")
    catalog = spark._jsparkSession.sessionState().catalog()
    identifier = spark._jvm.org.apache.spark.sql.catalyst.FunctionIdentifier
    checked = 0
    for (name,) in spark.sql("SHOW SYSTEM FUNCTIONS").collect():
        class_name = catalog.lookupFunctionInfo(identifier(name)).getClassName() if name.isidentifier() else None
        if class_name is None:
            continue
        changes = base.isAssignableFrom(loader.loadClass(class_name)) or class_name.rpartition(".")[2].startswith(
            ("Current", "CurDate", "Now", "LocalTime", "Uniform", "SparkVersion", "TryReflect")
        )
        if changes and name != "current_timezone":  # the run sets the time zone
            checked += 1
            assert unpinned_errors(_call(name)), name
    assert checked > 20


@pytest.fixture(scope="module")
def session(spark, tmp_path_factory):
    """A session with the declared views, and with tables, views and files that no spec declares."""
    folder = tmp_path_factory.mktemp("hermetic")
    with activated(spark.newSession()) as child:
        child.sql(f"CREATE DATABASE other LOCATION '{folder}/other'")
        child.sql("CREATE TABLE other.events USING parquet AS SELECT 9 AS a, 'x' AS b, array(1) AS xs")
        child.sql("SELECT 1 AS a, 'x' AS b, array(1, 2) AS xs").createOrReplaceTempView("events")
        child.sql("SELECT 1 AS a, 2.0D AS c").createOrReplaceTempView("users")
        child.sql("SELECT 9 AS a").createOrReplaceGlobalTempView("events")
        child.range(3).selectExpr("cast(id AS int) AS a").write.parquet(f"{folder}/files")
        yield child, f"{folder}/files"
        child.sql("DROP DATABASE other CASCADE")
        child.catalog.dropGlobalTempView("events")


class _Queries:
    """Random SELECTs whose output is one column `a`, with names in any case, CTEs that hide names, and relations of others."""

    def __init__(self, seed: int, files: str) -> None:
        self.random, self.files, self.depth = random.Random(seed), files, 0

    def name(self, names: list[str]) -> str:
        name = self.random.choice(names)
        name = self.random.choice([name, name, name.upper(), name.capitalize()])
        return self.random.choice([name, name, f"`{name}`"])

    def relation(self, ctes: list[str]) -> str:
        kind = self.random.random()
        if kind < 0.04:
            return f"{self.random.choice(['other', 'OTHER', 'spark_catalog.other'])}.events"
        if kind < 0.06:
            return f"parquet.`{self.files}`"
        if kind < 0.08:
            return "global_temp.events"
        if kind < 0.10:
            return "(SELECT cast(id AS int) AS a FROM range(3))"
        if kind < 0.14:
            return "(SELECT * FROM VALUES (1), (2) AS v(a))"
        if kind < 0.34 and self.depth < 3:
            return f"({self.query(ctes)})"
        return self.name(["events", "users", *ctes, *ctes])

    def query(self, ctes: list[str]) -> str:
        self.depth += 1
        start = ""
        if self.random.random() < 0.5:
            names: list[str] = []
            parts = []
            for _ in range(self.random.randint(1, 2)):
                name = self.random.choice([each for each in ("events", "users", "t", "u") if each not in names])
                parts.append(f"{self.name([name])} AS ({self.query([*ctes, *names])})")
                names.append(name)
            start, ctes = f"WITH {', '.join(parts)} ", [*ctes, *names]
        one, other = self.random.sample(["x", "Y", "`z`", "events"], 2)
        text = f"{start}SELECT {one}.{self.random.choice(['a', 'A', '`a`'])} AS a FROM {self.relation(ctes)} AS {one}"
        form = self.random.random()
        if form < 0.3:
            text += f" {self.random.choice(['', 'LEFT ', 'CROSS '])}JOIN {self.relation(ctes)} {other}"
            text += "" if "CROSS JOIN" in text.rsplit(" JOIN ", 1)[0] + " JOIN" else f" ON {one}.a = {other}.a"
        elif form < 0.5:
            text += f" WHERE {one}.a IN (SELECT q.a FROM {self.relation(ctes)} q)"
        elif form < 0.6:
            text += f" WHERE EXISTS (SELECT 1 FROM {self.relation(ctes)} q WHERE q.a = {one}.a)"
        elif form < 0.7:
            text += f" UNION ALL SELECT q.a FROM {self.relation(ctes)} AS q"
        elif form < 0.8:
            text += " LATERAL VIEW explode(array(1, 2)) e AS y"
        self.depth -= 1
        return text


def test_spark_reads_what_the_analysis_says(session):
    child, files = session
    accepted = refused = ctes = 0
    for seed in range(120):
        sql = _Queries(seed, files).query([])
        select = parsed(sql)
        if outside_errors(select):
            refused += 1
            continue
        relations = {name: RELATIONS[name] for name in dict.fromkeys(read.lower() for read in select.reads)}
        facts, errors = analyze_select(select, relations)
        assert not errors, f"{sql}\n{errors}"
        frame = child.sql(sql)
        assert relations_read(frame) == relations.keys(), sql
        assert [(column.name, column.type) for column in facts.columns] == frame.dtypes, sql
        accepted += 1
        ctes += "WITH" in sql
    assert accepted > 60
    assert refused > 10
    assert ctes > 20


def test_two_selects_of_different_meaning_differ_in_the_hash():
    hoisted = parsed("WITH events AS (SELECT 1 AS a) SELECT * FROM (SELECT * FROM events) x JOIN events e")
    nested = parsed("SELECT * FROM (WITH events AS (SELECT 1 AS a) SELECT * FROM events) x JOIN events e")
    assert hoisted.reads == ()
    assert nested.reads == ("events",)
    assert hoisted.canonical != nested.canonical


@pytest.mark.parametrize(
    "sql",
    ["SELECT a FROM other.events", "SELECT cast(id AS int) AS a FROM range(3)", "SELECT a FROM global_temp.events"],
)
def test_a_run_refuses_a_step_that_reads_more_than_its_plan_says(session, sql):
    child, _ = session
    interval = IntervalPlan("2024-01-01", "2024-01-01", "2024-01-02", "score", "", "0" * 64, (), ())
    with pytest.raises(SqlError, match="FS2007"):
        make_view(child, SqlStepPlan("s", sql, (), ("events",), (Column("a", "int"),)), interval)
    make_view(child, SqlStepPlan("s", "SELECT a FROM EVENTS", (), ("events",), (Column("a", "int"),)), interval)
    child.catalog.dropTempView("s")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a FROM events WHERE cast(b AS date) < 'today'",
        "SELECT a FROM events WHERE cast(b AS timestamp) IN ('now', '2024-01-01')",
        "SELECT a FROM events WHERE a IN (SELECT a FROM events WHERE date(b) = 'yesterday')",
        "WITH t AS (SELECT cast(concat('to', 'day') AS date) AS day FROM events) SELECT 1 AS a FROM t",
        "SELECT a FROM events WHERE date(b) < :day",
        "SELECT a FROM events WHERE firesteel_random() < 0.5",
        "SELECT a FROM events WHERE date(b) < firesteel_now()",
        "SELECT a FROM events WHERE date(b) < `current_date`",
    ],
)
def test_a_run_refuses_a_value_that_differs_in_each_run(session, sql):
    """Spark adds casts, and a catalog may have functions, which `validate` does not see."""
    child, _ = session
    child.sql("CREATE OR REPLACE FUNCTION default.firesteel_random() RETURNS DOUBLE RETURN rand()")
    child.sql("CREATE OR REPLACE FUNCTION default.firesteel_now() RETURNS TIMESTAMP RETURN now()")
    args = (("day", "today"),) if ":day" in sql else ()
    interval = IntervalPlan("2024-01-01", "2024-01-01", "2024-01-02", "score", "", "0" * 64, (), ())
    try:
        with pytest.raises(SqlError, match="FS2008"):
            make_view(child, SqlStepPlan("s", sql, args, ("events",), (Column("a", "int"),)), interval)
    finally:
        child.sql("DROP FUNCTION default.firesteel_random")
        child.sql("DROP FUNCTION default.firesteel_now")
    make_view(
        child,
        SqlStepPlan("s", "SELECT a FROM events WHERE b = 'today'", (), ("events",), (Column("a", "int"),)),
        interval,
    )
    child.catalog.dropTempView("s")


def test_the_language_of_the_machine_changes_no_value(spark):
    """In Turkish, the upper case of `i` is another letter, also in Spark if a text is not ASCII."""
    locale = spark._jvm.java.util.Locale
    before, query = locale.getDefault(), "SELECT upper('é i') AS u, lower('É I') AS l"
    try:
        locale.setDefault(locale.forLanguageTag("tr"))
        assert tuple(spark.sql(query).first()) != ("É I", "é i")
        with pytest.raises(RuntimeFault, match=r"FS9042.*`tr`"), open_session(sample_plan(), spark):
            pass
        assert locale.getDefault().getLanguage() == "tr", "the JVM of the caller is not changed"
        check_language(spark, own=True)
        assert tuple(spark.sql(query).first()) == ("É I", "é i")
    finally:
        locale.setDefault(before)


def test_the_run_sets_what_decides_the_meaning_of_sql():
    assert {TIME_ZONE, ANSI} <= DEFAULTS.keys()
