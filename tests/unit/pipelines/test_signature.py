"""The columns of a model's signature, found in a relation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firesteel.conf.errors import Where
from firesteel.pipelines.plan.model import Column, ModelPlan
from firesteel.pipelines.planner.signature import accepts, find_features


def find(inputs, asked, columns):
    model = ModelPlan("m", "", "", "1", "d", 0, "skops", "predict", tuple(inputs))
    return find_features(model, asked, "rows", tuple(columns), {}, Where("spec"))


def needs(name, kind="double", *, optional=False):
    return Column(name, kind, nullable=optional)


@settings(derandomize=True, max_examples=200)
@given(st.data())
def test_features_have_the_order_of_the_signature_whatever_the_order_of_spec_and_data(data):
    names = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True))
    inputs = [needs(name, optional=data.draw(st.booleans())) for name in names]
    asked = data.draw(st.none() | st.permutations(names).map(tuple))
    columns = data.draw(st.permutations([Column(name.upper() if name in "aceg" else name, "double") for name in names]))
    features, errors = find(inputs, asked, [*columns, Column("other", "string")])
    assert not errors
    assert [name.lower() for name in features.columns] == names
    assert (features.names or features.columns) == tuple(names)


def test_optional_columns_may_be_missing_and_required_ones_not():
    features, errors = find([needs("a"), needs("b", optional=True)], None, [Column("a", "double")])
    assert (features.columns, errors) == (("a",), [])
    _, errors = find([needs("a"), needs("b")], None, [Column("a", "double")])
    assert [error.code for error in errors] == ["FS3002"]
    assert "needs `b: double`, but rows does not have this column" in str(errors[0])


def test_a_feature_that_is_not_in_the_signature_is_refused_with_the_closest_name():
    _, errors = find(
        [needs("amount"), needs("age")], ("amonut", "age"), [Column("amount", "double"), Column("age", "double")]
    )
    assert [error.code for error in errors] == ["FS3002", "FS3002"]
    assert "has no input `amonut`" in str(errors[0])
    assert "Did you mean `amount`?" in str(errors[0])
    assert "which is not in `features`" in str(errors[1])


def test_columns_that_differ_in_case_alone_are_refused():
    _, errors = find([needs("amount")], None, [Column("Amount", "double"), Column("amount", "double")])
    assert [error.code for error in errors] == ["FS3002"]
    assert "Spark does not distinguish" in str(errors[0])
    assert find([needs("a"), needs("A")], None, [Column("a", "double")])[0].columns == ("a", "a")


@pytest.mark.parametrize(
    ("need", "given_type", "taken"),
    [
        ("double", "int", True), ("double", "bigint", False), ("double", "decimal(10,2)", True), ("float", "double", False),
        ("float", "smallint", False), ("bigint", "int", True), ("int", "bigint", False), ("timestamp", "date", True),
        ("timestamp", "timestamp_ntz", True), ("string", "int", False), ("boolean", "int", False), ("unknown", "binary", True),
        ("array<double>", "array<float>", True), ("array<double>", "array<bigint>", False), ("array<array<double>>", "array<double>", False),
        ("map<string,double>", "map<string,float>", True), ("map<string,double>", "map<int,double>", False),
        ("struct<a:double,b:string>", "struct<a:float,b:string>", True), ("struct<a:double>", "struct<a:double,x:int>", False),
        ("struct<a:array<struct<b:double>>>", "struct<a:array<struct<b:int>>>", True),
    ],
)  # fmt: skip
def test_the_types_that_mlflow_converts_are_taken_and_no_others(need, given_type, taken):
    assert accepts(need, given_type) is taken
