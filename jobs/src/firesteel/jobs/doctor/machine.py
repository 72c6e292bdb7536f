"""Check the machine, and the storage, tracking and secrets of a spec. A check never raises."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from firesteel.conf.check import Check
from firesteel.conf.errors import FiresteelError
from firesteel.conf.java import find_java
from firesteel.conf.quantities import byte_size, plural
from firesteel.conf.redaction import redact
from firesteel.conf.secret_sources import secret_sources
from firesteel.conf.secrets import find_secret, reveal, secrets_in
from firesteel.pipelines.spec.model import FileLineage, HttpLineage
from firesteel.rdma_shuffle.transport.verbs.rdma_state import probe

MIN_SHM = 1 << 30
_GATEWAY = frozenset({407, 502, 503, 504})
"""Answers of a proxy that does not reach the server."""
_UNREACHABLE = "Start the server or correct the address: runs lose their events."


def machine_checks(spec: Path | None, profile: str, params: dict[str, str]) -> list[Check]:
    """Return all checks, in the order in which a run needs what they check."""
    checks = [_python(), _java(), _packages(), _hadoop(), *_yarn()]
    if spec is not None:
        checks += _spec(spec, profile, params)
    return [
        replace(check, found=redact(check.found), advice=redact(check.advice))
        for check in (*checks, _rdma(), _shuffle())
    ]


def _python() -> Check:
    return Check("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")


def _java() -> Check:
    try:
        java = find_java()
    except FiresteelError as error:
        return Check("java", "fail", error.what, error.hint)
    return Check("java", "ok", f"{java.version} at {java.home}")


def _packages() -> Check:
    installed, missing = [], []
    for name in ("pyspark", "mlflow", "great-expectations", "pyarrow", "pandas", "hdfs"):
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", "fail", f"missing: {', '.join(missing)}", "pip install firesteel")
    return Check("packages", "ok", ", ".join(installed))


def _hadoop() -> Check:
    folder = os.environ.get("HADOOP_CONF_DIR")
    if not folder:
        return Check(
            "hadoop",
            "note",
            "HADOOP_CONF_DIR is not set",
            "Needed for HA, Kerberos and NameNode web addresses other than port 9870.",
        )
    missing = [name for name in ("core-site.xml", "hdfs-site.xml") if not Path(folder, name).is_file()]
    if missing:
        return Check(
            "hadoop",
            "fail",
            f"HADOOP_CONF_DIR={folder} lacks {', '.join(missing)}",
            "Set it to the folder of the cluster's client configuration.",
        )
    return Check("hadoop", "ok", f"HADOOP_CONF_DIR={folder}")


def _yarn() -> Iterator[Check]:
    """Check YARN; return no check if none is configured."""
    from firesteel.conf.yarn import resourcemanager_urls
    from firesteel.jobs.submit.application import ResourceManagers

    try:
        urls = resourcemanager_urls()
    except FiresteelError as error:
        yield Check("yarn", "fail", error.what, error.hint)
        return
    if not urls:
        return
    capacity = ResourceManagers(urls).capacity()
    if capacity is None:
        advice = "Check that it runs and that yarn-site.xml is the cluster's. Without it, `submit` cannot show states."
        yield Check("yarn", "note", f"no ResourceManager answers at {', '.join(urls)}", advice)
        return
    what = (
        f"{plural(capacity.nodes, 'node')}; free: {capacity.free_cores} of {plural(capacity.cores, 'core')}, "
        f"{byte_size(capacity.free_mib << 20)} of {byte_size(capacity.mib << 20)}"
    )
    advice = "" if capacity.nodes else "Start a NodeManager: none has registered, so applications wait."
    yield Check("yarn", "ok" if capacity.nodes else "note", what, advice)


def _spec(path: Path, profile: str, params: dict[str, str]) -> Iterator[Check]:
    from firesteel.jobs.doctor.tracking import tracking_checks
    from firesteel.pipelines.spec.load import load_spec
    from firesteel.pipelines.storage.open import locate

    try:
        loaded = load_spec(path, profile=profile, params=params)
        if loaded.errors:
            raise loaded.errors[0]
    except FiresteelError as error:
        yield Check("spec", "fail", str(error).splitlines()[0], f"firesteel validate {path}")
        return
    yield Check("spec", "ok", f"{path}: {loaded.spec.name}")
    try:
        storage, base = locate(loaded.spec.storage)
        exists = storage.status(base) is not None
        yield Check("storage", "ok", f"{loaded.spec.storage} is reachable{'' if exists else ', empty so far'}")
    except FiresteelError as error:
        yield Check("storage", "fail", error.what, error.hint)
    uri = loaded.spec.tracking.mlflow.uri
    events = loaded.spec.tracking.openlineage
    tokens = (events.url, events.auth or "") if isinstance(events, HttpLineage) else ()
    signing_key = loaded.spec.security.signing_key or ""
    yield from _secrets((*loaded.spec.configuration.values(), uri, *tokens, signing_key))
    yield from tracking_checks(loaded.spec)
    if events is not None:
        yield _lineage(events)


def _secrets(values: Iterable[str]) -> Iterator[Check]:
    """Check that each secret of the spec is found on this machine; return no check if there is none."""
    references = sorted({reference for value in values for reference in secrets_in(value)})
    if not references:
        return
    try:
        sources = secret_sources()
        for reference in references:
            find_secret(reference, sources)
    except FiresteelError as error:
        yield Check("secrets", "fail", error.what, error.hint)
        return
    yield Check("secrets", "ok", f"found: {', '.join(map(str, references))}")


def _lineage(target: FileLineage | HttpLineage) -> Check:
    """Check that events can be created and their target is reachable. No event is sent."""
    import requests

    from firesteel.jobs.lineage.transport import root_cause
    from firesteel.jobs.tracking.connect import without_secrets
    from firesteel.pipelines.storage.open import locate

    try:
        version("openlineage-python")
    except PackageNotFoundError:
        return Check("lineage", "fail", "openlineage-python is not installed", "pip install 'firesteel[lineage]'")
    state: Literal["note", "fail"] = "fail" if target.required else "note"  # runs continue without it
    if isinstance(target, FileLineage):
        try:
            storage, path = locate(target.path)
            storage.status(path)
        except FiresteelError as error:
            return Check("lineage", state, error.what, error.hint)
        return Check("lineage", "ok", f"files below {target.path}")
    place = without_secrets(target.url)
    try:  # as the transport does: through proxies, with the authority of the spec
        answer = requests.get(
            reveal(target.url), timeout=target.timeout, verify=target.ca or True, allow_redirects=False
        )
    except FiresteelError as error:
        return Check("lineage", state, error.what, error.hint)
    except (OSError, requests.RequestException) as error:
        return Check("lineage", state, f"{place}: {root_cause(error)}", _UNREACHABLE)
    if answer.status_code in _GATEWAY:
        return Check("lineage", state, f"{place}: the proxy answers {answer.status_code} {answer.reason}", _UNREACHABLE)
    return Check("lineage", "ok", f"{place} accepts connections")


def _rdma() -> Check:
    state = probe()
    memlock = "unlimited" if state.memlock_bytes is None else f"{state.memlock_bytes >> 10} KiB"
    limits = f"memlock {memlock}, /dev/shm {state.shm_bytes >> 20} MiB free"
    if not state.ports:
        return Check(
            "rdma", "note", f"no RDMA device; {limits}", "The node's shuffle service uses TCP and shared memory."
        )
    ports = ", ".join(f"{port.device}/{port.port} {port.state} {port.rate} ({port.link_layer})" for port in state.ports)
    if not state.usable:
        return Check("rdma", "note", f"{ports}; {limits}", "Bring the link up: no port is ACTIVE with an address.")
    if state.shm_bytes < MIN_SHM:
        return Check("rdma", "note", f"{ports}; {limits}", "Give /dev/shm at least 1 GiB for slabs.")
    return Check("rdma", "ok", f"{ports}; {limits}", "`firesteel doctor --rdma` checks it in detail, with a read.")


def _shuffle() -> Check:
    """Check that this node's shuffle service answers. Only specs with `shuffle: {manager: rdma}` need it."""
    from firesteel.rdma_shuffle.client import status
    from firesteel.rdma_shuffle.settings import default_socket

    socket = default_socket()
    try:
        service = json.loads(status(socket))
    except FiresteelError as error:
        advice = f"Only `shuffle: {{manager: rdma}}` needs it: docs/how-to/shuffle.md. {error.what}"
        return Check("shuffle", "note", f"no firesteel-shuffled answers at {socket}", advice)
    size = byte_size(sum(application["bytes"] for application in service["applications"]))
    content = f"{plural(len(service['applications']), 'application')}, {size}"
    return Check("shuffle", "ok", f"firesteel-shuffled of {service['node']} at {socket}: {content}")
