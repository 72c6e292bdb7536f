"""Boot a guest with real RDMA verbs: a User-Mode Linux kernel with Soft-RoCE, in a process with one CPU and without root.

    python tools/guest/boot.py -- ibv_devinfo            one guest, two devices (rxe0 at 10.77.0.1, rxe1 at 10.77.0.2)

The guest sees the host's files, so the checkout, .venv and JDK have the same paths. Its writes go to memory and are lost when it
ends. Only its share remains: `/run/share` in the guest, a folder on the host.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

HERE = Path(__file__).parent
ADDRESSES = ("10.77.0.1", "10.77.0.2")
"""The addresses of the two devices of one guest, or of the two guests of a pair."""
_STOP_S = 10.0


class NoGuest(RuntimeError):
    """The machine cannot start a guest. The text gives the reason and the fix."""


def kernel(*, build: bool) -> Path:
    """Return the path of the guest's kernel.

    Parameters
    ----------
    build
        Install missing packages and build the kernel if needed (takes minutes, once).

    Raises
    ------
    NoGuest
        A package or the kernel is missing and `build` is False, or the build failed.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise NoGuest(f"guests need Linux x86_64; this machine is {sys.platform} {os.uname().machine}")
    if shutil.which("dpkg-query") is None:
        raise NoGuest("guests need Debian packages, but dpkg is not installed")
    packages = _script("install.sh", *(() if build else ("--check",)))
    if packages.returncode:
        raise NoGuest(_last(packages.stderr))
    build_result = _script("kernel.sh", *(() if build else ("--path",)))
    path = Path(build_result.stdout.strip())
    if build_result.returncode or not path.name:
        raise NoGuest(_last(build_result.stderr))
    if not os.access(path, os.X_OK):
        raise NoGuest(f"the guest's kernel is not in the cache ({path}); `make test-rdma` builds it once, in minutes")
    return path


def _script(name: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(HERE / name), *args], capture_output=True, text=True, check=False)


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no output"


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a guest's command. `status` is None if the guest ended first: it was killed, or its kernel crashed."""

    status: int | None
    output: str
    console: str

    def check(self) -> str:
        """Return the output; raise AssertionError if the status is not 0."""
        if self.status != 0:
            raise AssertionError(
                f"the guest's command ended with {self.status}:\n{self.output[-6000:]}\n{self.console[-2000:]}"
            )
        return self.output


class Guest:
    """One guest, from `start` until its command ends or `kill`.

    Parameters
    ----------
    image
        The path of the kernel.
    share
        A new folder on the host, `/run/share` in the guest.
    memory_mib
        Memory of the guest in MiB, for processes, written files and /dev/shm.
    network
        `devices`: two Soft-RoCE devices at `ADDRESSES`; `link:ADDRESS`: one device on a link to another guest; `none`.
    link
        The host's end of that link.
    """

    def __init__(
        self,
        image: Path,
        share: Path,
        *,
        memory_mib: int = 1024,
        network: str = "devices",
        link: socket.socket | None = None,
    ) -> None:
        self._image, self.share, self._memory, self._network, self._link = image, share, memory_mib, network, link
        self._process: subprocess.Popen[bytes] | None = None
        share.mkdir(parents=True, exist_ok=True)

    def start(
        self, command: Sequence[str] | str, environ: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> Self:
        """Boot and run a command (or a shell line) in `folder`, with only these variables and HOME, PATH and JAVA_HOME."""
        line = command if isinstance(command, str) else shlex.join(command)
        inherited = {name: os.environ[name] for name in ("HOME", "PATH", "JAVA_HOME") if name in os.environ}
        variables = {**inherited, "LANG": "C.UTF-8", "FIRESTEEL_GUEST": self._network}
        exports = [f"export {name}={shlex.quote(value)}" for name, value in {**variables, **(environ or {})}.items()]
        where = f"cd {shlex.quote(str(folder or Path.cwd()))}"
        (self.share / "command").write_text("\n".join([*exports, where, line]) + "\n")
        shutil.copy(HERE / "enter.sh", self.share / "enter")
        boot = [
            f"mem={self._memory}M",
            "root=/dev/root",
            "rootfstype=hostfs",
            "hostfs=/",
            "ro",
            f"init={HERE / 'init.sh'}",
        ]
        boot += ["con=null", "con0=null,fd:1", "quiet", f"uml_dir={self.share}", "umid=uml"]
        boot += [f"FS_SHARE={self.share}", f"FS_NETWORK={self._network}"]
        descriptors: tuple[int, ...] = ()
        if self._link:
            descriptors = (self._link.fileno(),)
            boot.append(f"vec0:transport=fd,fd={self._link.fileno()},depth=128,mtu=9000")
        with (self.share / "console").open("wb") as console:
            self._process = subprocess.Popen(
                [str(self._image), *boot],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=descriptors,
                start_new_session=True,  # the group includes the helper processes
            )
        return self

    def wait(self, seconds: float) -> Done:
        """Wait until the guest ends, and return its result. Kill the guest after `seconds`."""
        assert self._process
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        return self.done()

    def done(self) -> Done:
        """Return the result so far."""
        status = self._text("status").strip()
        return Done(int(status) if status else None, self._text("output"), self._text("console"))

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_for(self, name: str, seconds: float) -> str:
        """Wait until the command has written a file of this name to the share, and return its text."""
        deadline = time.monotonic() + seconds
        while not (self.share / name).exists():
            if not self.runs or time.monotonic() > deadline:
                raise AssertionError(f"the guest did not write {name}: {self.done()}")
            time.sleep(0.05)
        return self._text(name)

    def _text(self, name: str) -> str:
        path = self.share / name
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self) -> None:
        """Kill the guest like a power failure. Idempotent."""
        if self._process is None:
            return
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_STOP_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@contextmanager
def pair(image: Path, share: Path, *, memory_mib: int = 1024) -> Iterator[tuple[Guest, Guest]]:
    """Return two guests on one link that are not started yet. They have the addresses `ADDRESSES`, in this order."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    guests = [
        Guest(image, share / str(number), memory_mib=memory_mib, network=f"link:{address}", link=end)
        for number, (address, end) in enumerate(zip(ADDRESSES, ends, strict=True))
    ]
    try:
        yield guests[0], guests[1]
    finally:
        for guest, end in zip(guests, ends, strict=True):
            guest.kill()
            end.close()


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--memory", type=int, default=1024, help="memory in MiB (default: %(default)s)")
    parse.add_argument("--seconds", type=float, default=600, help="time limit in seconds (default: %(default)s)")
    parse.add_argument("command", nargs="+")
    args = parse.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Guest(kernel(build=True), Path(folder), memory_mib=args.memory) as guest,
    ):
        done = guest.start(args.command).wait(args.seconds)
    sys.stdout.write(done.output)
    if done.status is None:
        sys.stderr.write(done.console)
    return 1 if done.status is None else done.status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NoGuest as error:
        sys.exit(f"cannot start a guest: {error}")
