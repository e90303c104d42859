"""The grader's own attempt to do, in a locked process, what a submission must not be able to do."""

import json
import os
import socket
import sys
from pathlib import Path

from pbl.grading.jobs import OUTPUT, STATUS, read_job


def try_walls(folder: Path) -> None:
    """Tries what a submission must not be able to do, and writes the names of what was not refused."""
    job = read_job(folder)

    def connect() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
            tried.settimeout(0.2)
            tried.connect(("127.0.0.1", 9))

    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    tries = {
        "read a file outside": lambda: Path(job["secret"]).read_bytes(),
        "list a folder outside": lambda: list(Path(job["secret"]).parent.iterdir()),
        "write outside": lambda: Path(job["secret"]).with_name("written").write_bytes(b""),
        "change a file outside": lambda: Path(job["secret"]).chmod(0o644),
        "read another process": lambda: Path(f"/proc/{job['grader']}/environ").read_bytes(),
        "signal another process": lambda: os.kill(job["grader"], 0),
        "open a connection": connect,
        "start a process": fork,
        "run a program": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
        "leave its session": os.setsid,
    }
    passed = []
    for name, attempt in tries.items():
        try:
            attempt()
        except PermissionError:
            continue
        except OSError as error:
            if name == "open a connection":  # a socket could be made
                passed.append(f"{name} ({error.strerror})")
            continue
        passed.append(name)
    (folder / OUTPUT / STATUS).write_text(json.dumps({"passed": passed}), encoding="utf-8")
