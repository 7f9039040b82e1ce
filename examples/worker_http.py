"""A worker that has nothing but HTTP: no database driver, no package, the standard library alone.

    scheduler token create worker --scope work --app shop
    URL=http://localhost:8080 TOKEN=sched_… APP=shop python worker_http.py

It executes runs whose executor is "demo": {"task": "add", "args": {"a": 1, "b": 2}}.
"""

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request

URL = os.environ.get("URL", "http://localhost:8080")
TOKEN = os.environ.get("TOKEN", "")
APP = os.environ.get("APP", "default")
TASKS = {"add": lambda a, b: {"sum": a + b}}

stopping = threading.Event()
retiring = threading.Event()
worker = None


def ask(verb, seconds=5, **body):
    """One step of the protocol: POST /api/v1/work/VERB, with an answer within so many seconds."""
    request = urllib.request.Request(
        f"{URL}/api/v1/work/{verb}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"},
    )
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return json.load(answer)


def keep_alive():
    """A heartbeat every second, in a thread of its own: a run that takes long must not look like a death.

    Who is declared dead (410), or was not heard for 4 seconds, has to stop at once: others take its runs over.
    """
    answered = time.monotonic()
    while not retiring.wait(1):
        sent = time.monotonic()
        try:
            ask("heartbeat", seconds=2, worker=worker)
            answered = sent
        except urllib.error.HTTPError as error:
            if error.code in (404, 410) and not retiring.is_set():
                os._exit(1)
        except OSError:
            pass
        if time.monotonic() - answered > 4:
            os._exit(1)


def execute(run):
    """How the attempt ended."""
    try:
        spec = run["spec"]
        result = TASKS[spec["task"]](**spec.get("args", {}))
    except Exception as error:  # whatever a task raises, the run has failed with it
        return {"run": run["id"], "outcome": "failed", "error": f"{type(error).__name__}: {error}"}
    return {"run": run["id"], "outcome": "succeeded", "result": result}


def again(verb, **body):
    """Until it is answered. A report that comes twice counts once."""
    while True:
        try:
            return ask(verb, **body)
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise
        except OSError:
            pass
        time.sleep(0.5)


signal.signal(signal.SIGTERM, lambda *_: stopping.set())
worker = ask("register", label="python example", apps=[APP], executors=["demo"], pid=os.getpid())["worker"]
threading.Thread(target=keep_alive, daemon=True).start()
print(f"worker {worker} is ready", flush=True)

while not stopping.is_set():
    # Waits at the server for up to 10 seconds until there is something to do.
    claimed = again("claim", worker=worker, limit=10, wait=10, seconds=20)
    if claimed["lease"] is not None:
        # The lease is the fence: hand it to whatever the runs touch, and let that refuse a smaller one.
        ends = [execute(run) for run in claimed["runs"]]
        again("finish", worker=worker, app=claimed["app"], lease=claimed["lease"], ends=ends)

retiring.set()
ask("retire", worker=worker)
