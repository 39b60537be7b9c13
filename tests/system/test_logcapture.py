# SPDX-License-Identifier: GPL-2.0-or-later
"""Unhandled errors and foreign records as events, in real processes with an empty stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

START = """
import gc, logging, os, sys, threading, warnings
import gevent
from gevent.hub import get_hub
from lonc_gevent.errors import ChallengeFailedError
from lonc_gevent.logs.capture import capture_foreign, capture_hub_errors
from lonc_gevent.logs import Logs

logs = Logs(1)
undo_foreign = capture_foreign(logs)
undo_hub = capture_hub_errors(get_hub(), logs.logger)

def fail(error):
    raise error
"""

END = """
assert logs.close(5)
"""


def run(script: str, code: int = 0, stderr: str = "") -> list[dict[str, Any]]:
    """Run the script between START and END; return its events."""
    process = subprocess.run(
        [sys.executable, "-c", START + script + END],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (process.returncode, process.stderr) == (code, stderr)
    assert "canary" not in process.stdout
    return [json.loads(line) for line in process.stdout.splitlines()]


def test_an_error_in_a_greenlet_is_an_event() -> None:
    """An error that no greenlet caught is logged with type and place, without text or arguments."""
    (event,) = run("""
gevent.spawn(fail, KeyError("canary-payload")).join()
gevent.spawn(fail, gevent.GreenletExit()).join()
""")

    assert list(event)[1:] == ["level", "event", "source", "error", "where"]
    assert (event["level"], event["event"], event["source"]) == (
        "error",
        "unhandled_error",
        "greenlet",
    )
    assert event["error"] == "KeyError"
    assert event["where"][0] == "<string>:14 fail"


def test_an_error_in_a_callback_of_the_hub_is_an_event() -> None:
    """Errors of callbacks and timers are logged as those of greenlets, and the hub runs on."""
    events = run("""
get_hub().loop.run_callback(fail, OSError(32, os.strerror(32)))
gevent.sleep(0.01)
timer = get_hub().loop.timer(0.001)
timer.start(fail, ChallengeFailedError("not ok"))
gevent.sleep(0.05)
""")

    assert [event["error"] for event in events] == [
        "BrokenPipeError: Broken pipe",
        "ChallengeFailedError: not ok",
    ]


def test_an_error_that_ends_the_process_still_ends_it() -> None:
    """A SystemExit in a greenlet is still raised in the main greenlet."""
    events = run(
        """
try:
    gevent.spawn(sys.exit, 3)
    gevent.sleep(5)
finally:
    logs.close(5)
""",
        code=3,
    )

    assert [event["error"] for event in events] in ([], ["SystemExit"])


def test_an_error_in_the_main_greenlet_is_logged_before_the_end() -> None:
    (event,) = run("fail(ValueError('canary-payload'))", code=1)

    assert (event["level"], event["source"], event["error"]) == ("critical", "main", "ValueError")


def test_errors_in_threads_and_finalisers_are_events() -> None:
    """Threads and `__del__` log their errors and print nothing to stderr."""
    events = run("""
thread = threading.Thread(target=fail, args=(ValueError("canary-payload"),))
thread.start()
thread.join()
thread = threading.Thread(target=sys.exit, args=(1,))
thread.start()
thread.join()

class Dying:
    def __del__(self):
        fail(LookupError("canary-payload"))

Dying()
gc.collect()
""")

    assert [(event["source"], event["error"]) for event in events] == [
        ("thread", "ValueError"),
        ("unraisable", "LookupError"),
    ]


def test_foreign_records_and_warnings_are_events() -> None:
    """Records of Python's `logging` and `warnings` are `foreign_log` events, shortened."""
    events = run("""
logging.getLogger("other").warning("found %d\\n", 3)
logging.getLogger("other").info("not asked for")
logging.getLogger("other").error("long " + "x" * 5000)
logging.getLogger("other").critical("wrong %d", "format")
logging.getLogger("other").log(55, "odd level")
try:
    fail(KeyError("canary-payload"))
except KeyError:
    logging.getLogger("other").exception("failed")
warnings.warn("careful", stacklevel=1)
""")

    assert {event["event"] for event in events} == {"foreign_log"}
    assert [(event["level"], event["logger"], event["text"][:8]) for event in events] == [
        ("warning", "other", "found 3"),
        ("error", "other", "long xxx"),
        ("critical", "other", "<unprint"),
        ("critical", "other", "odd leve"),
        ("error", "other", "failed"),
        ("warning", "py.warnings", "<string>"),
    ]
    assert len(events[1]["text"]) == 512
    assert events[4]["error"] == "KeyError"
    assert "careful" in events[5]["text"]


def test_capturing_can_be_undone() -> None:
    events = run(
        """
undo_foreign()
undo_hub()
assert sys.excepthook is sys.__excepthook__
assert sys.unraisablehook is sys.__unraisablehook__
assert threading.excepthook is threading.__excepthook__
assert logging.getLogger().handlers == []
assert "handle_error" not in vars(get_hub())
assert get_hub().exception_stream is sys.stderr
logging.getLogger("other").warning("to stderr")
""",
        stderr="to stderr\n",
    )

    assert events == []
