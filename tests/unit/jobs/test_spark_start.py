"""Why Spark did not start, from what py4j raises."""

from __future__ import annotations

import signal
import socket

import pytest

from firesteel.jobs.spark.session import _restored_sigint, start_fault

JAVA = """An error occurred while calling None.org.apache.spark.api.java.JavaSparkContext.
: java.net.BindException: bind(..) failed with error(-98): Address already in use: Service '{service}' failed after 0 retries ({how})! Consider
\tat io.netty.channel.unix.Errors.newIOException(Errors.java:155)
"""
SETTINGS = {"spark.driver.bindAddress": "127.0.0.1"}


@pytest.mark.parametrize(
    ("service", "key"),
    [
        ("sparkDriver", "spark.driver.port"),
        ("org.apache.spark.network.netty.NettyBlockTransferService", "spark.driver.blockManager.port"),
        ("SparkUI", "spark.ui.port"),
        ("HttpServer", "the port of HttpServer"),
    ],
)
def test_a_port_that_is_taken_is_named_with_its_setting(service, key):
    fault = start_fault(JAVA.format(service=service, how="starting from 4711"), "local[2]", SETTINGS)
    assert fault.code == "FS9007"
    assert fault.what == f"Spark cannot listen on port 4711 ({key}): another process uses it."
    assert f"Set {key} to a free port" in fault.hint


def test_an_address_that_this_machine_does_not_have_is_named():
    text = JAVA.format(service="sparkDriver", how="on a random free port")
    fault = start_fault(text, "local[2]", {"spark.driver.bindAddress": "10.9.9.9"})
    assert (fault.code, "the address 10.9.9.9 (spark.driver.bindAddress)" in fault.what) == ("FS9007", True)


def test_a_ui_without_a_port_is_found_although_the_jvm_is_gone():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        settings = {**SETTINGS, "spark.ui.enabled": "true", "spark.ui.port": port, "spark.port.maxRetries": "0"}
        fault = start_fault("[Errno 111] Connection refused", "local[2]", settings)
        assert (fault.code, f"port {port} (spark.ui.port)" in fault.what) == ("FS9007", True)
        off = {**settings, "spark.ui.enabled": "false"}
        assert start_fault("[Errno 111] Connection refused", "local[2]", off).code == "FS9002"
    assert start_fault("[Errno 111] Connection refused", "local[2]", settings).code == "FS9002"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            "An error occurred while calling None.x.\n: java.lang.IllegalArgumentException: startPort is wrong\n\tat a.b\n",
            "java.lang.IllegalArgumentException: startPort is wrong",
        ),
        ("An error.\n: a.E: outer\n\tat a.b\nCaused by: a.F: inner\n\t... 3 more\n", "a.F: inner"),
        ("Java gateway process exited before sending its port number.", "Java gateway process exited before"),
        ("", "no reason was given"),
    ],
)
def test_any_other_cause_is_the_innermost_exception(text, cause):
    fault = start_fault(text, "local[2]", {"spark.ui.enabled": "false"})
    assert (fault.code, fault.what.startswith(f"Spark did not start on local[2]: {cause}")) == ("FS9002", True)


def test_ctrl_c_stays_with_the_caller_when_a_context_takes_it():
    before = signal.getsignal(signal.SIGINT)
    with _restored_sigint():
        signal.signal(signal.SIGINT, lambda *_: None)
    assert signal.getsignal(signal.SIGINT) is before
