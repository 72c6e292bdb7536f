"""The packages that a model requires are compared with those that are installed, as `packaging` says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from firesteel.conf.errors import ModelError
from firesteel.udfs import requirements
from firesteel.udfs.requirements import (
    Declared,
    check_module_error,
    check_requirements,
    describe_missing,
    installed_version,
    mismatches,
    missing_module,
    other_major,
    read_requirements,
)

HERE = {
    "cloudpickle": "3.1.0",
    "lightgbm": "4.6.0",
    "mlflow-skinny": "3.17.2",
    "numpy": "2.4.6",
    "onnxruntime-gpu": "1.22.0",
    "pandas": "2.3.1",
    "scikit-learn": "1.9.1",
    "statsmodels": "0.14.5",
    "torch": "2.7.0+cpu",
    "tzdata": "2025.2",
    "unknown": "",
    "odd": "not a version",
}
SKLEARN = "flavors:\n  python_function: {loader_module: mlflow.sklearn}\n  sklearn: {}\n"


def model(folder: Path, mlmodel: str = SKLEARN, **files: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text(mlmodel)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name.replace("_txt", ".txt").replace("_yaml", ".yaml")).write_bytes(data)
    return folder


def compared(folder: Path, format_: str = "pickle", **options) -> list[str]:
    """Return the mismatches as text, errors with an exclamation mark."""
    found = mismatches(read_requirements(folder, format_), HERE.get, **options)
    return [f"{'!' if mismatch.is_error else ''}{mismatch}" for mismatch in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("scikit-learn==1.9.1", ""),
        ("scikit-learn", ""),
        ("Scikit_Learn >= 1.5, < 2", ""),
        ("scikit-learn==1.5.2", "scikit-learn==1.5.2 (found 1.9.1)"),
        ("scikit-learn==1.9.0", "scikit-learn==1.9.0 (found 1.9.1)"),
        ("scikit-learn==0.24.2", "!scikit-learn==0.24.2 (found 1.9.1)"),
        ("scikit-learn>=2", "!scikit-learn>=2 (found 1.9.1)"),
        ("scikit-learn~=1.4.2", "scikit-learn~=1.4.2 (found 1.9.1)"),
        ("scikit-learn!=1.9.*,<2", "scikit-learn!=1.9.*,<2 (found 1.9.1)"),
        ("scikit-learn===homemade", "!scikit-learn===homemade (found 1.9.1)"),
        ("statsmodels==0.14.2", "statsmodels==0.14.2 (found 0.14.5)"),
        ("statsmodels==0.13.5", "!statsmodels==0.13.5 (found 0.14.5)"),
        ("lightgbm>1!1", "!lightgbm>1!1 (found 4.6.0)"),
        ("torch==2.7.0", ""),
        ("pandas==1.5.3", "pandas==1.5.3 (found 2.3.1)"),
        ("tzdata==2024.1", "tzdata==2024.1 (found 2025.2)"),
        ("numpy==1.26.4", "numpy==1.26.4 (found 2.4.6)"),
        ("cloudpickle==1.6.0", "cloudpickle==1.6.0 (found 3.1.0)"),
        ("mlflow[databricks]==2.9.2", "mlflow==2.9.2 (found 3.17.2)"),
        ("mlflow>=3", ""),
        ("onnxruntime==1.22.0", ""),
        ("pyspark==3.5.0", "pyspark==3.5.0 (not installed)"),
        ("absent", "!absent (not installed)"),
        ("absent[x,y]>=1.0,<2", "!absent<2,>=1.0 (not installed)"),
        ("absent @ https://example.org/absent-1.whl", "!absent (not installed)"),
        ("pandas @ https://example.org/pandas-1.whl", ""),
        ("unknown==5", ""),
        ("odd==5", ""),
        ("absent; python_version < '3'", ""),
        ("absent; extra == 'all'", ""),
        ("absent; platform_machine == 'none' or python_version >= '3'", "!absent (not installed)"),
        ("absent; no_such_marker == '1'", ""),
        ("absent==1.0 --hash=sha256:abc --hash=sha256:def", "!absent==1.0 (not installed)"),
        ("absent==1.0 \\\n    --hash=sha256:abc", "!absent==1.0 (not installed)"),
        ("absent==1.0  # why", "!absent==1.0 (not installed)"),
        ("# absent", ""),
        ("-r other.txt", ""),
        ("-c constraints.txt", ""),
        ("-e git+https://example.org/x#egg=x", ""),
        ("--index-url http://localhost:1/", ""),
        ("git+https://example.org/x.git@main#egg=x", ""),
        ("https://example.org/x-1.0-py3-none-any.whl", ""),
        ("wheels/x-1.0-py3-none-any.whl", ""),
        ("./x", ""),
        ("${VARIABLE}==1", ""),
        ("absent==" + "9" * 600, ""),
        ("absent; " + "(" * 480, ""),
        ("\x00", ""),
        ("\ufeffabsent", "!absent (not installed)"),
    ],
)
def test_a_requirement_is_met_or_differs_or_stops_the_plan(tmp_path, line, expected):
    assert compared(model(tmp_path, requirements_txt=line + "\n")) == ([expected] if expected else [])


def test_errors_come_first_and_repeated_lines_count_once(tmp_path):
    lines = "numpy==1\nabsent\nnumpy==1\nabsent\n"
    assert compared(model(tmp_path, requirements_txt=lines)) == [
        "!absent (not installed)",
        "numpy==1 (found 2.4.6)",
    ]


@pytest.mark.parametrize(
    ("format_", "flavor", "expected"),
    [
        ("pickle", "sklearn", ["!absent (not installed)", "!lightgbm==3.0 (found 4.6.0)"]),
        ("skops", "sklearn", ["!absent (not installed)", "lightgbm==3.0 (found 4.6.0)"]),
        ("skops", "lightgbm", ["!absent (not installed)", "!lightgbm==3.0 (found 4.6.0)"]),
        ("lightgbm", "lightgbm", ["!lightgbm==3.0 (found 4.6.0)", "absent (not installed)"]),
        ("onnx", "onnx", ["absent (not installed)", "lightgbm==3.0 (found 4.6.0)"]),
    ],
)
def test_packages_that_cannot_stop_the_loading_of_a_format_are_warnings(tmp_path, format_, flavor, expected):
    mlmodel = f"flavors:\n  python_function: {{loader_module: mlflow.{flavor}}}\n  {flavor}: {{}}\n"
    folder = model(tmp_path, mlmodel, requirements_txt="absent\nlightgbm==3.0\n")
    assert compared(folder, format_) == expected


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("3.11.2", []),
        ("'3.11'", []),
        ("3.8.10", ["Python 3.8.10 (found 3.11.9)"]),
        ("2.7.18", ["!Python 2.7.18 (found 3.11.9)"]),
        ("none", []),
        ("[3, 8]", []),
    ],
)
def test_another_minor_version_of_python_is_a_warning(tmp_path, declared, expected):
    folder = model(tmp_path, f"flavors:\n  python_function: {{python_version: {declared}}}\n")
    assert compared(folder, python="3.11.9") == expected


CONDA = """
channels: [conda-forge]
dependencies:
- python=3.8.10
- scikit-learn=0.23.2
- libgcc=9
- pip<=22
- pip: [mlflow, "absent==1.0", {not: text}]
name: mlflow-env
"""
VIRTUALENV = "python: 3.8.10\nbuild_dependencies: [pip==1, setuptools]\ndependencies: ['-r requirements.txt', absent]\n"


def test_old_models_declare_in_conda_yaml_or_python_env_yaml(tmp_path):
    folder = model(tmp_path, python_env_yaml=VIRTUALENV)
    assert compared(folder) == ["!absent (not installed)"]
    model(folder, conda_yaml=CONDA)
    assert compared(folder) == ["!scikit-learn==0.23.2 (found 1.9.1)", "!absent==1.0 (not installed)"]
    model(folder, requirements_txt="")
    assert compared(folder) == []


def test_a_model_may_declare_nothing(tmp_path):
    assert compared(model(tmp_path)) == []
    assert compared(model(tmp_path, conda_yaml="")) == []
    assert compared(model(tmp_path, conda_yaml="dependencies: text\n")) == []


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("requirements_txt", b"caf\xe9==1\n", "requirements.txt is not UTF-8 text (byte 3)"),
        ("requirements_txt", b"#" * ((1 << 20) + 1), "requirements.txt is larger than 1 MiB"),
        ("requirements_txt", b"a\n" * 6_000, "requirements.txt has more than 5,000 lines"),
        ("conda_yaml", b"dependencies: [!!python/object/apply:os.system ['false']]\n", "conda.yaml is not valid: "),
        ("conda_yaml", b"- a\n", "conda.yaml is not valid: it is not a mapping"),
        ("conda_yaml", b"a: [[[[[[[[[[" * 20, "conda.yaml is not valid: it has too deeply nested values"),
        ("python_env_yaml", b"a: &a [*a]\n", "python_env.yaml is not valid: it has a YAML alias"),
        ("python_env_yaml", b"\xff\xfe", "python_env.yaml is not UTF-8 text (byte 0)"),
    ],
)
def test_hostile_files_are_refused(tmp_path, file, content, says):
    folder = model(tmp_path, **{file: content})
    with pytest.raises(ModelError) as caught:
        check_requirements(folder, "m", "warn", "pickle")
    assert caught.value.code == "FS3001"
    assert says in caught.value.what
    assert check_requirements(folder, "m", "ignore", "pickle") == ()


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    (model(tmp_path) / "requirements.txt").mkdir()
    with pytest.raises(ModelError, match=r"FS3001 .*requirements\.txt is a folder"):
        check_requirements(tmp_path, "m", "enforce", "pickle")


def test_the_policy_decides_what_a_difference_is(tmp_path, monkeypatch):
    monkeypatch.setattr(requirements, "mismatches", lambda declared: mismatches(declared, HERE.get))
    folder = model(tmp_path, requirements_txt="scikit-learn==0.24.2\nabsent>=1\nnumpy==1.26.4\n")
    with pytest.raises(ModelError) as caught:
        check_requirements(folder, "delay", "enforce", "pickle")
    assert caught.value.code == "FS3013"
    assert caught.value.what == (
        "model delay requires scikit-learn==0.24.2 (found 1.9.1), absent>=1 (not installed) in this Python environment."
    )
    assert "pip install 'scikit-learn==0.24.2' 'absent>=1'" in caught.value.hint
    assert "`requirements: warn`" in caught.value.hint
    assert check_requirements(folder, "delay", "warn", "pickle") == (
        "its requirements differ from this Python environment: scikit-learn==0.24.2 (found 1.9.1), absent>=1 (not installed), "
        "numpy==1.26.4 (found 2.4.6). Loading or scoring can fail.",
    )
    assert check_requirements(folder, "delay", "ignore", "pickle") == ()
    model(folder, requirements_txt="numpy==1.26.4\n")
    assert check_requirements(folder, "delay", "enforce", "pickle") == (
        "its requirements differ from this Python environment: numpy==1.26.4 (found 2.4.6). Scores can differ.",
    )


def test_a_message_lists_eight_packages(tmp_path):
    folder = model(tmp_path, requirements_txt="".join(f"absent{number}\n" for number in range(10)))
    with pytest.raises(ModelError, match=r"absent7 \(not installed\) and 2 more in this"):
        check_requirements(folder, "m", "enforce", "pickle")


RELEASES = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
VERSIONS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "", "1!"]),
    RELEASES,
    st.sampled_from(["", "", "rc1", ".post1", ".dev1", "+cpu"]),
)
CLAUSES = st.one_of(
    st.builds(
        "{}{}".format, st.sampled_from(["<", "<=", ">", ">="]), VERSIONS.map(lambda text: text.partition("+")[0])
    ),
    st.builds("{}{}".format, st.sampled_from(["==", "!=", "==="]), VERSIONS),
    st.builds("{}{}.*".format, st.sampled_from(["==", "!="]), RELEASES),
    st.builds("~={}.{}".format, RELEASES, st.integers(0, 3)),
)
SPECIFIERS = st.lists(CLAUSES, max_size=3).map(lambda clauses: SpecifierSet(",".join(clauses)))


def declaring(specifier: SpecifierSet) -> Declared:
    return Declared((Requirement(f"xgboost{specifier}"),), "", frozenset({"xgboost"}), needs_all=True)


@given(SPECIFIERS, VERSIONS)
def test_a_version_differs_exactly_if_packaging_does_not_allow_it(specifier, version):
    allowed = specifier.contains(version, prereleases=True)
    assert (mismatches(declaring(specifier), {"xgboost": version}.get) == []) == allowed


def series(version: Version) -> tuple[int, ...]:
    return (version.epoch, version.major, *([] if version.major else [version.minor]))


GRID = [
    Version(f"{epoch}{major}.{minor}.{patch}")
    for epoch in ("", "1!")
    for major in range(5)
    for minor in range(5)
    for patch in range(5)
]


@given(SPECIFIERS, VERSIONS)
def test_a_difference_is_minor_if_packaging_allows_a_version_of_the_same_series(specifier, version):
    same = [other for other in GRID if series(other) == series(Version(version))]
    if any(specifier.contains(other, prereleases=True) for other in same):
        assert not other_major(specifier, version)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_pinned_versions_are_compared_by_their_series(major, minor, other_major_, other_minor):
    pinned, here = f"{major}.{minor}.1", f"{other_major_}.{other_minor}.2"
    assert other_major(SpecifierSet(f"=={pinned}"), here) == (series(Version(pinned)) != series(Version(here)))


def test_the_packages_of_this_process_are_found_by_name_or_by_module():
    assert installed_version("packaging")
    assert installed_version("this") == "", "a module without metadata"
    assert installed_version("no-such-package") is None


@pytest.mark.parametrize(
    ("error", "module"),
    [
        (ModuleNotFoundError("No module named 'lightgbm'", name="lightgbm"), "lightgbm"),
        (type("ModuleNotFoundError", (Exception,), {})("No module named 'a.b'"), "a.b"),
        (ImportError("Missing optional dependency 'pyarrow'. Use pip."), "pyarrow"),
        (ImportError("cannot import name 'x' from 'sklearn.y'", name="sklearn.y"), "sklearn.y"),
        (ValueError("No module named 'a'"), ""),
        (ImportError("no"), ""),
    ],
)
def test_an_import_error_names_its_module(error, module):
    assert missing_module(error) == module
    wrapped = RuntimeError("while loading")
    wrapped.__cause__ = error
    assert missing_module(wrapped) == module


def test_a_missing_module_names_its_package():
    assert describe_missing("no_such.part") == "the package no_such (module `no_such.part`) is not installed"
    installed = installed_version("scikit-learn")
    assert describe_missing("sklearn.no_such") == (
        f"the installed scikit-learn {installed} cannot give the module `sklearn.no_such`"
    )
    check_module_error(ValueError("bad row"), "m")
    with pytest.raises(ModelError, match=r"FS3013 model m fails in .*the package no_such .*is not installed") as caught:
        check_module_error(ModuleNotFoundError("No module named 'no_such'"), "m")
    assert "requirements.txt" in caught.value.hint
