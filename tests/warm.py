"""Real processes that start at once: forked from one that has imported the package, which takes five seconds or more.

They are processes like any other: they have their own number and memory, take signals, can be killed and end with an
exit code. What only a fresh interpreter shows (hashes of strings, encodings, what an import costs or prints) needs one.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

# None of these uses what a fork would break: no thread is started, and no gradient taken.
PRELOADED = (
    "gsnn.cli",
    "gsnn.discovery",
    "gsnn.edges.parallel",
    "gsnn.report",
    "gsnn.runs",
    "gsnn.runs.infer",
    "gsnn.runs.train",
    "gsnn.runs.training",
)


class Process:
    """As much of ``subprocess.Popen`` as tests use; what it printed is kept in files."""

    def __init__(self, words: list[Any], cwd: Any = None, env: dict[str, str] | None = None) -> None:
        self.args = [str(word) for word in words]
        self.returncode: int | None = None
        self._ended = threading.Event()
        self._files = [tempfile.NamedTemporaryFile("r", encoding="utf-8") for _ in range(2)]
        out, err = (file.name for file in self._files)
        self.pid = _Server.get().start(self, [self.args, str(cwd or os.getcwd()), env or {}, out, err])

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        told = []
        for file in self._files:
            told.append("" if file.closed else file.read())
            file.close()
        return told[0], told[1]

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(words: list[Any], cwd: Any = None, env: dict[str, str] | None = None, timeout: float = 240) -> Any:
    """Run ``python words`` in a warm process; its exit code and what it printed."""
    process = Process(words, cwd, env)
    try:
        out, err = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.wait(), out, err)


class _Server:
    """The process that has imported everything, and a thread that hears of what it started."""

    _one: _Server | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).resolve())]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        self._numbers = itertools.count()
        self._started: dict[int, tuple[Process, threading.Event]] = {}
        self._pids: dict[int, int] = {}
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        atexit.register(self._close)

    @classmethod
    def get(cls) -> _Server:
        with cls._lock:
            if cls._one is None:
                cls._one = cls()
            return cls._one

    def start(self, process: Process, request: list[Any]) -> int:
        number, began = next(self._numbers), threading.Event()
        self._started[number] = (process, began)
        assert self._process.stdin is not None
        with self._lock, contextlib.suppress(BrokenPipeError):  # told below
            self._process.stdin.write(json.dumps([number, *request]) + "\n")
            self._process.stdin.flush()
        if self._listener.is_alive():
            began.wait(120)
        if number not in self._pids:
            raise RuntimeError("the process that starts others does not answer, or could not import the package")
        return self._pids[number]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what, number, value = line.split()
            process, began = self._started[int(number)]
            if what == "started":
                self._pids[int(number)] = int(value)
                began.set()
            else:
                process.returncode = int(value)
                process._ended.set()
        for _, began in list(self._started.values()):
            began.set()  # it is gone: nobody need wait

    def _close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


# ---------------------------------------------------------------------- in the process that starts the others


def _serve() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C on the tests is for the tests
    running: dict[int, int] = {}
    waiting = b""
    while True:
        ready, _, _ = select.select([0], [], [], 0.01 if running else None)
        if ready:
            got = os.read(0, 65536)
            if not got:
                break
            *lines, waiting = (waiting + got).split(b"\n")
            for line in lines:
                number, *request = json.loads(line)
                pid = os.fork()
                if not pid:
                    _work(*request)
                running[pid] = number
                os.write(1, f"started {number} {pid}\n".encode())
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            os.write(1, f"ended {running.pop(pid)} {os.waitstatus_to_exitcode(status)}\n".encode())
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _work(words: list[str], cwd: str, env: dict[str, str], out: str, err: str) -> None:
    """Be ``python words``."""
    code: Any = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, name in ((0, os.devnull), (1, out), (2, err)):
            opened = os.open(name, os.O_RDWR)
            os.dup2(opened, number)
            os.close(opened)
        os.environ.update(env)
        os.chdir(cwd)
        code = _python(words)
    except SystemExit as stopped:
        code = stopped.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code if isinstance(code, int) else int(code is not None))


def _python(words: list[str]) -> int:
    import runpy

    if words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], os.getcwd()
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *words[2:]], os.getcwd()
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = words, str(Path(words[0]).parent)
        runpy.run_path(words[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    _serve()
