"""Capture golden wire bytes from the real Python package.

    python interop/golden.py OUT_DIR              write every golden file to OUT_DIR
    python interop/golden.py --verify DIR         check DIR against the real decoder

The files in testdata/wire come from

    python -m venv VENV
    VENV/bin/pip install --require-hashes -r interop/requirements.txt
    DRAMATIQ_TEST_REDIS_URL=redis://127.0.0.1:6379/0 VENV/bin/python interop/golden.py testdata/wire

DRAMATIQ_TEST_REDIS_URL names a Redis that may be written to; only keys that
start with "golden-capture" are touched, and they are removed again. --verify
needs no Redis.

Only public behaviour of the package is used: messages are built, encoded and
decoded, enqueued on a StubBroker or a RedisBroker, and run by a Worker. What
would differ from run to run is replaced from the outside, before the package is
imported: uuid.uuid4 is a sequence seeded by the scenario's name, time.time is a
clock that moves only when a scenario says so, the random module returns the
middle of every range, and tracebacks show the frames of the actors alone.
Running the script twice therefore gives the same bytes.

--verify decodes every file of DIR/accept and DIR/reject with the real
Message.decode, and compares the outcome with what is expected here; it also
checks that every golden envelope survives decode and encode byte for byte. It
prints one line a file and exits with 1 when reality disagrees.
"""

import argparse
import json
import logging
import os
import random
import sys
import threading
import time
import traceback
import uuid

# ---------------------------------------------------------------------------
# What makes a run repeatable. All of it happens before the package is imported.

EPOCH_MS = 1767225600000  # 2026-01-01T00:00:00Z

_lock = threading.Lock()
_rng = random.Random("setup")
_now_ms = EPOCH_MS


def _uuid4():
    with _lock:
        return uuid.UUID(int=_rng.getrandbits(128), version=4)


def _time():
    with _lock:
        return _now_ms / 1000


def advance(ms):
    """Moves the clock of the package on."""
    global _now_ms
    with _lock:
        _now_ms += ms


def reset(seed):
    global _now_ms, _rng
    with _lock:
        _now_ms = EPOCH_MS
        _rng = random.Random(seed)


def _format_stack(self, **_):
    return [
        f'  File "{f.filename}", line {f.lineno}, in {f.name}\n'
        for f in self
        if f.filename == "actors.py"
    ]


uuid.uuid4 = _uuid4
time.time = _time
random.random = lambda: 0.5
random.uniform = lambda a, b: a + (b - a) * 0.5
random.randint = lambda a, b: (a + b) // 2
traceback.StackSummary.format = _format_stack

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import StubBackend as LimiterStub
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend as ResultRedis
from dramatiq.results.backends import StubBackend as ResultStub

logging.disable(logging.CRITICAL)

NAMESPACE = "golden-capture"

ACTORS = """\
def add(x, y=0):
    return x + y

def echo(*args, **kwargs):
    return args[0] if args else None

def ok(*args, **kwargs):
    return "ok"

def null(*args, **kwargs):
    return None

def boom(*args, **kwargs):
    raise RuntimeError("kaboom \\u00e9")

def flip(box, *args, **kwargs):
    raise RuntimeError("first time")
"""
_fns = {}
exec(compile(ACTORS, "actors.py", "exec"), _fns)

# ---------------------------------------------------------------------------
# Output.

files = {}  # relative path -> (bytes, description)
SECTIONS = []  # (heading, [relative path])


def section(title):
    SECTIONS.append((title, []))


def emit(name, data, text):
    if isinstance(data, str):
        data = data.encode("utf-8")
    assert name not in files, name
    files[name] = (data, text)
    SECTIONS[-1][1].append(name)


# ---------------------------------------------------------------------------
# Brokers that remember what was enqueued, in order.


class RedisRecorder(RedisBroker):
    def enqueue(self, message, *, delay=None):
        stored = super().enqueue(message, delay=delay)
        data = stored.encode()
        raw = self.client.hget(f"{NAMESPACE}:{stored.queue_name}.msgs", stored.options["redis_message_id"])
        # A worker may have finished the message already; otherwise these are the stored bytes.
        assert raw is None or raw == data, (raw, data)
        self.sent.append(data)
        return stored


class StubRecorder(StubBroker):
    def enqueue(self, message, *, delay=None):
        stored = super().enqueue(message, delay=delay)
        self.sent.append(stored.encode())
        return stored


class Scene:
    """One broker, the actors of this file, and perhaps a worker on queue w."""

    def __init__(self, seed, style, *, extra=(), actor_options=None):
        reset(f"{seed}/{style}")
        self.style = style
        if style == "redis":
            url = os.environ.get("DRAMATIQ_TEST_REDIS_URL")
            if not url:
                sys.exit("golden.py: DRAMATIQ_TEST_REDIS_URL is not set")
            self.broker = RedisRecorder(url=url, namespace=NAMESPACE)
            self.wipe()
        else:
            self.broker = StubRecorder(fail_fast_default=False)
        self.broker.sent = []
        for m in extra:
            self.broker.add_middleware(m)
        options = actor_options or {}
        for name in ("add", "echo", "ok", "null", "boom"):
            dramatiq.actor(_fns[name], actor_name=name, queue_name="w", broker=self.broker, **options.get(name, {}))
        for name in ("cb_s", "cb_f", "cb_x", "done"):
            dramatiq.actor(lambda *a, **k: None, actor_name=name, queue_name="cb", broker=self.broker)
        self.worker = None

    def wipe(self):
        for key in list(self.broker.client.scan_iter(NAMESPACE + "*")):
            self.broker.client.delete(key)

    def message(self, actor, *args, **options):
        kwargs = options.pop("kwargs", {})
        return self.broker.get_actor(actor).message_with_options(args=args, kwargs=kwargs, **options)

    def send(self, actor, *args, delay=None, **options):
        return self.broker.enqueue(self.message(actor, *args, **options), delay=delay)

    def start(self):
        self.worker = dramatiq.Worker(self.broker, queues={"w"}, worker_threads=1, worker_timeout=50)
        self.worker.start()

    def wait(self, condition):
        limit = time.monotonic() + 30
        while not condition():
            if time.monotonic() > limit:
                raise TimeoutError(f"{len(self.broker.sent)} messages: {self.broker.sent}")
            time.sleep(0.01)

    def wait_sent(self, n):
        self.wait(lambda: len(self.broker.sent) >= n)

    def dead(self):
        self.wait(lambda: self.broker.client.hlen(f"{NAMESPACE}:w.XQ.msgs") == 1)
        [data] = self.broker.client.hvals(f"{NAMESPACE}:w.XQ.msgs")
        return data

    def settled(self):
        """Waits until nothing of queue w is left in Redis."""
        keys = [f"{NAMESPACE}:w.msgs", f"{NAMESPACE}:w.DQ.msgs"]
        self.wait(lambda: not any(self.broker.client.exists(k) for k in keys))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.worker:
            self.worker.stop(timeout=10000)
        if self.style == "redis":
            self.wipe()
        self.broker.close()


STYLES = {"redis": "Redis", "rabbit": "RabbitMQ"}


# ---------------------------------------------------------------------------
# Scenarios.

STRINGS = '\u00e9 \u2028 \U0001f600 \x7f </script> & " \\ / \b\f\n\r\t\0'
BIG = 123456789012345678901234567890


def nested(levels):
    value = []
    for _ in range(levels - 1):
        value = [value]
    return value


def built(name, text, actor="echo", args=(), kwargs=None, options=None, queue="w"):
    """A message as Message.encode writes it: what RabbitMQ gets, and Redis but for redis_message_id."""
    reset(name)
    message = dramatiq.Message(
        queue_name=queue, actor_name=actor, args=args, kwargs=kwargs or {}, options=options or {}
    )
    emit(name + ".json", message.encode(), text)


def envelopes():
    section("Envelopes as built (what RabbitMQ stores)")
    built("plain-args", "`add(1, 2)`", "add", (1, 2))
    built("kwargs-only", "`add(x=1, y=2)`: empty `args`", "add", (), {"x": 1, "y": 2})
    built("no-args", "no arguments: `[]` and `{}`")
    built("strings", "the string of the torture vector alone, and a plain keyword", args=(STRINGS,), kwargs={"kw": "v"})
    built(
        "torture",
        "the encoding torture vector, protocol 1.8",
        args=(
            STRINGS, 1.0, 1e20, 1e16, 1e-7, BIG, -0.0, 0.1,
            float("nan"), float("inf"), float("-inf"), None, True,
            [1, [2]], {"b": 1, "a": {2: None}}, dict([(1, 3), (None, 3), (True, 4), (1.5, 6)]),
        ),
        kwargs={"kw": "v"},
        queue="default",
    )
    built(
        "numbers",
        "30-digit integer, NaN, Infinity, -Infinity, -0.0, 1e-07, positional and by keyword",
        args=(BIG, float("nan"), float("inf"), float("-inf"), -0.0, 1e-07),
        kwargs={"big": BIG, "nan": float("nan")},
    )
    built("big-int-and-float", "9007199254740993 (2^53+1) and 1.5", args=(9007199254740993, 1.5))
    built(
        "lone-surrogates",
        "high, low and reversed surrogates that have no partner, in values and in a member name",
        args=("\ud83d", "\ude00x", "a\udfffb", "\ude00\ud83d"),
        kwargs={"\ud800": 1},
    )
    built("nested-200", "one argument, 200 arrays inside each other", args=(nested(200),))
    built("nested-900", "the same with 900", args=(nested(900),))
    built(
        "free-options",
        "options nobody knows: string, object, big integer, float, null, and a known one",
        "add",
        (1, 2),
        options={
            "x-trace": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "x-nested": {"a": [1, 2.0, None], "b": {}},
            "x-big": BIG,
            "x-rate": 1.0,
            "x-null": None,
            "max_retries": 3,
        },
    )
    built(
        "option-variants",
        "known options in their less usual forms: `max_retries` null, `time_limit` Infinity, `notify_shutdown` true",
        "add",
        (1, 2),
        options={
            "max_retries": None, "min_backoff": 0, "max_backoff": 0, "max_age": 100, "time_limit": float("inf"),
            "notify_shutdown": True, "store_results": False, "result_ttl": 5000, "broker_priority": 7,
        },
    )


def delayed():
    section("Enqueued, delayed, promoted")
    with Scene("plain", "redis") as s:
        s.send("add", 1, 2)
        emit("plain-redis.json", s.broker.sent[0], "`add(1, 2)` as stored in Redis")
    for style, label in STYLES.items():
        with Scene("delayed", style) as s:
            s.send("add", 3, 4, delay=5000, foo="bar", broker_priority=7)
            emit(
                f"delayed-{style}.json", s.broker.sent[0],
                f"delay 5000, free option, `broker_priority`, on {label}: `.DQ` and integer `eta`",
            )
            s.start()
            advance(4999)
            time.sleep(0.3)
            assert len(s.broker.sent) == 1, "early"
            advance(1)
            s.wait_sent(2)
            emit(
                f"promoted-{style}.json", s.broker.sent[1],
                "the same after promotion: `eta` gone"
                + (", new `redis_message_id`" if style == "redis" else ""),
            )
        with Scene("delay-zero", style) as s:
            s.send("add", 3, 4, delay=0)
            emit(f"delayed-zero-{style}.json", s.broker.sent[0], f"delay 0 on {label}: goes to `.DQ` all the same")


def retries():
    section("Retries and dead letters")
    for style, label in STYLES.items():
        with Scene("retry", style) as s:
            s.send(
                "boom", BIG, float("nan"), min_backoff=3000, kwargs={"name": "v"},
                **{"x-trace": "abc", "x-big": BIG},
            )
            emit(
                f"retry-{style}-0.json", s.broker.sent[0],
                f"a message that will fail, on {label}: 30-digit integer, NaN, free options, `min_backoff` 3000",
            )
            s.start()
            s.wait_sent(2)
            emit(
                f"retry-{style}-1.json", s.broker.sent[1],
                "after failure 1: `retries`, `traceback`, `requeue_timestamp`, `eta` (random factor fixed at 1.5)",
            )
            advance(4500)
            s.wait_sent(4)
            emit(f"retry-{style}-1-promoted.json", s.broker.sent[2], "that, promoted")
            emit(f"retry-{style}-2.json", s.broker.sent[3], "after failure 2")
    with Scene("dead", "redis") as s:
        s.send("boom", max_retries=0)
        s.start()
        emit(
            "dead-redis.json", s.dead(),
            "dead-lettered at the first failure (`max_retries` 0): the bytes as enqueued, no counters",
        )
    with Scene("dead-after-retry", "redis") as s:
        s.send("boom", max_retries=1, min_backoff=100)
        s.start()
        s.wait_sent(2)
        advance(1000)
        emit(
            "dead-after-retry-redis.json", s.dead(),
            "dead-lettered after two failures (`max_retries` 1): still says `retries` 1",
        )
    with Scene("dead-age", "redis") as s:
        s.send("ok", delay=300, max_age=100)
        s.start()
        advance(300)
        emit("dead-age-redis.json", s.dead(), "dead-lettered by `max_age` 100 after a delay of 300")
    with Scene("dead-unknown", "redis") as s:
        reset("dead-unknown/message")
        s.broker.enqueue(dramatiq.Message(queue_name="w", actor_name="nobody", args=(1,), kwargs={}, options={}))
        s.start()
        emit("dead-unknown-redis.json", s.dead(), "dead-lettered because no actor has that name")


def callbacks():
    section("Callbacks")
    for style, label in STYLES.items():
        with Scene("on-success", style) as s:
            s.send("add", 5, 6, on_success="cb_s", on_failure="cb_f")
            s.start()
            s.wait_sent(2)
            emit(
                f"on-success-{style}.json", s.broker.sent[1],
                f"`on_success` of `add(5, 6)` on {label}: [envelope, 11]",
            )
        with Scene("on-success-null", style) as s:
            s.send("null", on_success="cb_s")
            s.start()
            s.wait_sent(2)
            emit(f"on-success-null-{style}.json", s.broker.sent[1], "`on_success` with a null result")
        with Scene("on-failure", style) as s:
            s.send("boom", max_retries=2, min_backoff=100, on_failure="cb_f", on_retry_exhausted="cb_x")
            s.start()
            # The main queue, twice promoted from the delay queue, and the callbacks.
            s.wait_sent(3)
            advance(1000)
            s.wait_sent(6)
            advance(1000)
            s.wait_sent(9)
            sent = [b for b in s.broker.sent if json.loads(b)["queue_name"] == "cb"]
            order = [json.loads(b)["actor_name"] for b in sent]
            assert order == ["cb_f", "cb_f", "cb_x", "cb_f"], order
            for name, data, text in (
                ("on-failure-1", sent[0], "`on_failure` after failure 1 of 3 (`max_retries` 2): [envelope, type and message]"),
                ("on-failure-2", sent[1], "after failure 2"),
                ("on-retry-exhausted", sent[2], "`on_retry_exhausted`, enqueued before the last `on_failure`"),
                ("on-failure-3", sent[3], "after failure 3"),
            ):
                emit(f"{name}-{style}.json", data, f"{text}; {label}")


def pipelines():
    section("Pipelines")
    for style, label in STYLES.items():
        def run(name, steps, actor_options=None, style=style):
            s = Scene(name, style, actor_options=actor_options)
            messages = [s.message(actor, *args, **(opts or {})) for actor, args, opts in steps]
            s.pipeline = dramatiq.pipeline(messages, broker=s.broker)
            return s

        with run("pipeline", [("add", (1,), None), ("add", (2,), None), ("add", (3,), None)]) as s:
            emit(f"pipeline-built-{style}.json", s.pipeline.messages[0].encode(),
                 "a pipeline of three, first step as built, before it is enqueued")
            s.pipeline.run()
            emit(f"pipeline-step1-{style}.json", s.broker.sent[0], f"the first step as stored; {label}")
            s.start()
            s.wait_sent(3)
            emit(f"pipeline-step2-{style}.json", s.broker.sent[1], "the second: result 1 appended")
            emit(f"pipeline-step3-{style}.json", s.broker.sent[2], "the third: result 3 appended")
        with run(
            "pipeline-ignore",
            [("add", (1,), None), ("add", (2,), {"pipe_ignore": True}),
                       ("add", (3,), {"delay": 60000, "custom": "x"})],
        ) as s:
            s.pipeline.run()
            s.start()
            s.wait_sent(3)
            emit(f"pipeline-ignore-step1-{style}.json", s.broker.sent[0],
                 "middle step has `pipe_ignore`, last one a `delay` of 60000 and a free option")
            emit(f"pipeline-ignore-step2-{style}.json", s.broker.sent[1], "nothing appended to the middle step")
            emit(f"pipeline-ignore-step3-{style}.json", s.broker.sent[2],
                 "its own result is appended to the last, which is delayed: `.DQ`, `eta`, `delay` kept")
        with run(
            "pipeline-actor-ignore", [("add", (1,), None), ("ok", (2,), None)],
            actor_options={"add": {"pipe_ignore": True}},
        ) as s:
            s.pipeline.run()
            s.start()
            s.wait_sent(2)
            emit(f"pipeline-actor-ignore-step2-{style}.json", s.broker.sent[1],
                 "`pipe_ignore` on the actor that just ran: nothing appended")
        with run("pipeline-null", [("null", (), None), ("ok", (2,), None)]) as s:
            s.pipeline.run()
            s.start()
            s.wait_sent(2)
            emit(f"pipeline-null-step2-{style}.json", s.broker.sent[1], "first step returned null: null appended")
        with run("pipeline-delayed", [("add", (1,), None), ("add", (2,), {"delay": 1000})]) as s:
            s.pipeline.run()
            s.start()
            s.wait_sent(2)
            emit(f"pipeline-delayed-step2-{style}.json", s.broker.sent[1], "next step has `delay` 1000")
        with run("pipeline-fail", [("boom", (), {"min_backoff": 100}), ("add", (2,), None)]) as s:
            s.pipeline.run()
            s.start()
            s.wait_sent(2)
            emit(f"pipeline-retry-{style}.json", s.broker.sent[1], "first step failed: its retry carries `pipe_target`")


def groups():
    section("Groups with completion callbacks")
    for style, label in STYLES.items():
        with Scene("group", style, extra=[GroupCallbacks(LimiterStub())]) as s:
            g = dramatiq.group(
                [s.message("add", 1), dramatiq.pipeline([s.message("add", 2), s.message("add", 3)], broker=s.broker)],
                broker=s.broker,
            )
            g.add_completion_callback(s.message("done", "done"))
            g.run()
            emit(f"group-child-{style}.json", s.broker.sent[0], f"a plain child of a group of two; {label}")
            emit(f"group-pipeline-child-{style}.json", s.broker.sent[1],
                 "the other child, a pipeline of two: only its last step carries the completion options")
            s.start()
            s.wait_sent(4)
            emit(f"group-pipeline-last-{style}.json", s.broker.sent[2], "that last step when it is enqueued")
            emit(f"group-callback-{style}.json", s.broker.sent[3], "the completion callback when the group is done")


def results():
    section("Results")
    lines = [
        "# md5 of <namespace>:<canonical queue>:<actor>:<message id>, and the key with the prefix option.",
        "# Columns, tab-separated: namespace, queue_name of the message, actor, message id, md5 key, prefix key.",
    ]
    for ns, queue, actor, mid in (
        ("dramatiq-results", "default", "add", "e2a66cd9-eb69-4fb1-baf3-302748150bc3"),
        ("dramatiq-results", "default.DQ", "add", "e2a66cd9-eb69-4fb1-baf3-302748150bc3"),
        ("dramatiq-results", "default.XQ", "add", "e2a66cd9-eb69-4fb1-baf3-302748150bc3"),
        ("dramatiq-results", "w", "empty", "ddb5b2d8-ca7a-47b0-8f57-0b3b9b642c06"),
        ("other", "a.b-c_d", "Class", "12"),
        ("dramatiq-results", "w", "caf\u00e9 \U0001f600", "m:1"),
    ):
        message = dramatiq.Message(queue_name=queue, actor_name=actor, args=(), kwargs={}, options={}, message_id=mid)
        md5 = ResultStub(namespace=ns).build_message_key(message)
        prefix = ResultStub(namespace=ns, use_namespace_prefix_keys=True).build_message_key(message)
        lines.append(f"{ns}\t{queue}\t{actor}\t{mid}\t{md5}\t{prefix}")
    emit("result-keys.txt", "\n".join(lines) + "\n", "result keys; see its head")

    def stored(name, text, actor, args=(), **options):
        with Scene("result-" + name, "redis") as s:
            backend = ResultRedis(client=s.broker.client, namespace=NAMESPACE + "-results",
                                  use_namespace_prefix_keys=True)
            s.broker.add_middleware(Results(backend=backend, store_results=True))
            m = s.send(actor, *args, **options)
            s.start()
            key = backend.build_message_key(m)
            s.wait(lambda: s.broker.client.llen(key) == 1)
            s.settled()
            emit(f"results/{name}.json", s.broker.client.lindex(key, 0), text)

    stored("value", "result of `add(1, 2)`: the only element of the list", "add", (1, 2))
    stored("null", "result of an actor that returns null", "null")
    stored("object", "an object with a non-ASCII string, NaN and a 30-digit integer", "echo",
           ({"x": "\u00e9", "nan": float("nan"), "big": BIG},))
    stored("failure", "a failed actor, `max_retries` 0", "boom", max_retries=0)
    with Scene("result-skip", "redis") as sc:
        backend = ResultRedis(client=sc.broker.client, namespace=NAMESPACE + "-results", use_namespace_prefix_keys=True)
        sc.broker.add_middleware(Results(backend=backend, store_results=True))
        m = sc.message("ok", max_age=100)
        advance(200)
        sc.broker.enqueue(m)
        sc.start()
        key = backend.build_message_key(m)
        sc.wait(lambda: sc.broker.client.llen(key) == 1)
        emit("results/age-limit.json", sc.broker.client.lindex(key, 0), "stopped by `max_age`")


# ---------------------------------------------------------------------------
# What the decoder takes and what it refuses.

GOOD = {
    "queue_name": '"w"',
    "actor_name": '"ok"',
    "args": "[1]",
    "kwargs": "{}",
    "options": '{"redis_message_id":"rid"}',
    "message_id": '"m1"',
    "message_timestamp": "1767225600000",
}
# Refused up to CPython 3.11, decoded by later ones, which have a limit of their own.
DEEP = {"nested-1100", "nested-objects-1100"}
ACCEPT = []  # (name, bytes, note)
REJECT = []  # (name, bytes, note, Python decodes it all the same)


def text(*drop, **members):
    parts = {k: v for k, v in {**GOOD, **members}.items() if k not in drop}
    return "{" + ",".join(f'"{k}":{v}' for k, v in parts.items()) + "}"


def accept(name, data, note):
    ACCEPT.append((name, data if isinstance(data, bytes) else data.encode("utf-8"), note))


def reject(name, data, note="", python_decodes=False):
    REJECT.append((name, data if isinstance(data, bytes) else data.encode("utf-8"), note, python_decodes))


def cases():
    accept("whitespace", '\n \n{ "queue_name" : "w","actor_name":"ok","args":[1],"kwargs":{},"options":'
           '{"redis_message_id":"rid-w"},"message_id":"12","message_timestamp":1} \n', "protocol 1.8")
    accept("whitespace-all-kinds", " \t\r\n" + text(args="[\t1\r,\n2 ]") + "\t\r\n ", "tab, CR, LF and blank everywhere")
    accept("raw-utf8", text(args='["\u00e9 \u2028 \U0001f600 \u007f </script> & \\" \\\\ /"]'), "raw UTF-8, raw DEL")
    accept("escapes", text(args='["\\u00E9 \\u2028 \\uD83D\\uDE00 \\u007F \\/ \\b\\f\\n\\r\\t\\u0000 \\u0041"]'),
           "upper-case hex, escaped slash, escaped plain letter")
    accept("lone-surrogates", text(args='["\\ud83d","\\ude00x","\\ud83d\\u0041","\\ude00\\ud83d"]'), "escapes without a partner")
    accept("escaped-member-name", text().replace("queue_name", "queue\\u005fname"), "a member name written with an escape")
    accept("member-order", '{"message_timestamp":1,"message_id":"m1","options":{},"kwargs":{},"args":[],"actor_name":"ok","queue_name":"w"}',
           "order carries no meaning")
    accept("nonfinite", text(args="[NaN,Infinity,-Infinity]"), "bare words")
    accept("numbers", text(args="[123456789012345678901234567890,-0,-0.0,1e400,-1e400,1E5,1.0,1e-7,0.10,9007199254740993]"),
           "Python: `-0` is 0, `1e400` is Infinity, `1E5` a float")
    accept("int-4300-digits", text(args="[" + "9" * 4300 + "]"), "the longest integer Python takes by default")
    accept("nested-900", text(args="[" + "[" * 900 + "]" * 900 + "]"), "900 levels")
    accept("missing-message-id", text("message_id"), "Python invents a new id at every decode")
    accept("missing-message-timestamp", text("message_timestamp"), "Python takes the time of decoding")
    accept("missing-both", text("message_id", "message_timestamp"), "both of them (case 11)")
    accept("message-id-integer", text(message_id="12"), "Python keeps the integer")
    accept("message-id-null", text(message_id="null"), "Python keeps null as the id")
    accept("message-id-empty", text(message_id='""'), "any string is an id")
    accept("timestamp-float", text(message_timestamp="1767225600000.5"), "Python keeps the float")
    accept("timestamp-exponent", text(message_timestamp="1.7672256e12"), "Python: a float")
    accept("args-string", text(args='"abc"'), "Python: the characters, `[\"a\",\"b\",\"c\"]`")
    accept("args-string-empty", text(args='""'), "Python: `[]`")
    accept("args-object", text(args='{"x":1,"y":2}'), "Python: the keys, `[\"x\",\"y\"]`")
    accept("kwargs-null", text(kwargs="null"), "decodes; the call then fails as an actor exception, which is retried")
    accept("duplicate-members", '{"queue_name":"a","queue_name":"w","actor_name":"ok","args":[1],"args":[2],"kwargs":{"k":1,"k":2},'
           '"options":{"x":1,"x":2},"message_id":"m0","message_id":"m1","message_timestamp":1}', "the last one wins, at every level")
    accept("empty-member-names", text(kwargs='{"":1}', options='{"":2}'), "the empty string is a member name")
    accept("eta-soon", text(options='{"redis_message_id":"rid","eta":"soon"}'), "a non-numeric `eta` is replaced by now when the message is received")
    accept("eta-null", text(options='{"redis_message_id":"rid","eta":null}'), "a null `eta` is dropped when the message is received")
    accept("eta-float", text(options='{"redis_message_id":"rid","eta":1767225601000.75}'), "a float is a time like any other")
    accept("eta-integer", text(options='{"redis_message_id":"rid","eta":1767225601000}'), "the usual form")
    accept("eta-true", text(options='{"redis_message_id":"rid","eta":true}'), "true")
    accept("eta-negative", text(options='{"redis_message_id":"rid","eta":-1}'), "long due")
    accept("pipe-target", text(options='{"redis_message_id":"rid","pipe_target":' + text(options='{"pipe_target":' + text(options='{"pipe_ignore":true}') + "}") + "}"),
           "three envelopes inside each other")
    accept("pipe-target-extra-member", text(options='{"redis_message_id":"rid","pipe_target":' + text(x="1") + "}"),
           "the nested envelope is bad, the outer one is not: Python finds out when the step is due")
    accept("unknown-options", text(options='{"redis_message_id":"rid","a":null,"b":[1,{"c":1.50}],"d":123456789012345678901234567890}'), "kept for ever")
    accept("wrong-option-types", text(options='{"redis_message_id":"rid","max_retries":"3","retries":"x","max_age":[],"time_limit":"y"}'),
           "options are never validated at decode time")
    accept("queue-name-odd", text(queue_name='"9 a/\u00e9"'), "names are checked at declaration alone")

    reject("bom", b"\xef\xbb\xbf" + text().encode(), "byte-order mark")
    reject("utf16", text().encode("utf-16"), "UTF-16 with a BOM")
    reject("utf16-le", text().encode("utf-16-le"), "UTF-16 without one")
    reject("utf16-be", text().encode("utf-16-be"))
    reject("utf32-le", text().encode("utf-32-le"))
    reject("invalid-utf8", text(args='["@"]').encode().replace(b"@", b"\xff"), "byte 0xff")
    reject("invalid-utf8-latin1", text(args='["@"]').encode().replace(b"@", b"caf\xe9"), "Latin-1")
    reject("invalid-utf8-overlong", text(args='["@"]').encode().replace(b"@", b"\xc0\xaf"), "overlong form")
    reject("invalid-utf8-surrogate", text(args='["@"]').encode().replace(b"@", b"\xed\xa0\xbd"), "surrogate as raw bytes")
    reject("invalid-utf8-truncated", text(args='["@"]').encode().replace(b"@", b"\xf0\x9f\x98"), "cut character")
    reject("empty", b"", "no bytes at all")
    reject("blank", b" \n", "whitespace alone")
    reject("bad-brace", b"{bad", "cases 12 and 13")
    reject("truncated", text()[:-1], "closing brace missing")
    reject("trailing-comma-object", text()[:-1] + ",}")
    reject("trailing-comma-array", text(args="[1,]"))
    reject("trailing-garbage", text() + "x")
    reject("trailing-object", text() + text(), "two envelopes")
    reject("trailing-nul", text().encode() + b"\0")
    reject("top-level-array", "[" + text() + "]")
    reject("top-level-null", "null")
    reject("top-level-string", '"x"')
    reject("top-level-number", "1")
    reject("top-level-empty-object", "{}")
    reject("extra-member", text(x="1"), "one member too many (case 14)")
    reject("extra-member-redelivered", text(redelivered="false"), "the same with a plausible name")
    for member in ("queue_name", "actor_name", "args", "kwargs", "options"):
        reject("missing-" + member.replace("_", "-"), text(member))
    reject("member-name-case", text("args", Args="[1]"), "member names are case-sensitive")
    reject("args-null", text(args="null"), "case 14")
    reject("args-number", text(args="5"))
    reject("args-true", text(args="true"))
    reject("control-newline", text(args='["a\nb"]'), "raw LF in a string")
    reject("control-tab", text(args='["a\tb"]'), "raw TAB in a string")
    reject("control-nul", text(args='["a\0b"]'), "raw NUL in a string")
    reject("control-in-name", text(kwargs='{"a\x1fb":1}'), "raw U+001F in a member name")
    reject("whitespace-formfeed", text(args="[1,\f2]"), "form feed is no JSON whitespace")
    reject("whitespace-nbsp", text(args="[1,\u00a02]"), "nor is U+00A0")
    reject("comment", text(args="[1/*x*/]"))
    reject("single-quotes", text(args="['a']"))
    reject("unquoted-name", text(kwargs="{a:1}"))
    reject("escape-x", text(args='["\\x41"]'))
    reject("escape-short", text(args='["\\u12"]'))
    reject("escape-not-hex", text(args='["\\u12g4"]'))
    reject("number-leading-zero", text(args="[01]"))
    reject("number-plus", text(args="[+1]"))
    reject("number-bare-fraction", text(args="[.5]"))
    reject("number-bare-point", text(args="[1.]"))
    reject("number-bare-exponent", text(args="[1e]"))
    reject("number-hex", text(args="[0x10]"))
    reject("number-underscore", text(args="[1_000]"))
    reject("word-nan", text(args="[nan]"), "the words are case-sensitive")
    reject("word-minus-nan", text(args="[-NaN]"))
    reject("word-plus-infinity", text(args="[+Infinity]"))
    reject("word-inf", text(args="[inf]"))
    reject("word-true", text(args="[True]"))
    reject("nested-1100", text(args="[" + "[" * 1100 + "]" * 1100 + "]"), "beyond the recursion limit up to CPython 3.11; 3.12 takes it")
    reject("nested-20000", text(args="[" + "[" * 20000 + "]" * 20000 + "]"), "beyond that of 3.12 and 3.13 too")
    reject("nested-objects-1100", text(kwargs='{"a":' * 1100 + "1" + "}" * 1100), "objects; 3.12 takes it")
    reject("options-null", text(options="null"), "Python decodes it and its consumer crashes (case 14)", True)
    reject("options-array", text(options="[]"), "Python decodes it; every hook then throws and the message is never settled", True)
    reject("options-string", text(options='"x"'), "the same", True)
    reject("kwargs-array", text(kwargs="[1]"), "Python decodes it; the call then fails as an actor exception", True)
    reject("kwargs-string", text(kwargs='"x"'), "the same", True)
    reject("queue-name-null", text(queue_name="null"), "Python decodes it, runs the actor and loses the worker thread", True)
    reject("queue-name-number", text(queue_name="1"), "the same", True)
    reject("actor-name-null", text(actor_name="null"), "Python decodes it and finds no such actor", True)
    reject("actor-name-number", text(actor_name="1"), "the same", True)


def decode(name, data):
    """Decodes as the package does: gives its own re-encoding, or None where it refuses."""
    reset("decode/" + name)
    try:
        return dramatiq.Message.decode(data).encode()
    except dramatiq.DecodeError:
        return None


def accepts():
    section("accept/: odd input that must be decoded")
    for name, data, note in ACCEPT:
        emit(f"accept/{name}.json", data, note)
        again = decode(name, data)
        assert again is not None, name
        files[f"accept/{name}.reencoded"] = (again, "")
    section("reject/: input that must be treated as undecodable")
    for name, data, note, python_decodes in REJECT:
        emit(f"reject/{name}.json", data, ("**Python decodes this; we do not.** " if python_decodes else "") + note)


# ---------------------------------------------------------------------------

README_HEAD = """\
# Golden wire bytes

Written by `interop/golden.py`; do not edit by hand. Captured from the real package by running it:
dramatiq {dramatiq} on CPython {python} with redis-py {redis}{server}.

Every `.json` file holds exactly the bytes of one envelope (or of one stored result), without a newline at the end.
They are raw bytes, not always valid JSON: `NaN`, `Infinity` and lone surrogates occur. Never let an editor or
formatter touch them.

What differs from run to run was fixed from the outside: message ids are a seeded sequence, the clock starts at
{epoch} and moves only where a scenario says so, random factors are the middle of their range (1.5 for the
backoff), and tracebacks keep only the frames of the actors (file `actors.py`).
`-redis` files carry `redis_message_id`; `-rabbit` files do not, and are what RabbitMQ gets as a body (captured
through the package's in-memory broker).

Check against the real decoder with `python interop/golden.py --verify testdata/wire`.

`accept/NAME.reencoded` is what Python makes of `accept/NAME.json`: decoded and encoded again. Where the input
has no id or no timestamp, the invented one in it means nothing.
In `reject/`, "Python decodes this; we do not" marks the files on which the two sides differ on purpose.
An integer of more than 4300 digits is refused by Python from 3.11 and is in neither directory: take it or leave it.
How deep an input Python takes depends on its version: up to 3.11 not 1100 levels, in 3.12 and 3.13 more than that but
not 20000. What a peer must be able to read is therefore at most what `accept/nested-900` and `nested-900` hold.
"""


def readme(server):
    import redis

    out = [README_HEAD.format(
        dramatiq=dramatiq.__version__, python=sys.version.split()[0], redis=redis.__version__,
        server=f" and Redis {server}" if server else "", epoch=EPOCH_MS,
    )]
    for title, names in SECTIONS:
        out.append(f"\n## {title}\n\n| file | what |\n|---|---|\n")
        out += [f"| `{n}` | {files[n][1]} |\n" for n in names]
    return "".join(out)


def capture(out):
    envelopes()
    delayed()
    retries()
    callbacks()
    pipelines()
    groups()
    results()
    accepts()
    with Scene("server", "redis") as s:
        server = s.broker.client.info("server")["redis_version"]
    page = readme(server)
    for sub in ("", "accept", "reject", "results"):
        os.makedirs(os.path.join(out, sub), exist_ok=True)
    for name, (data, _) in files.items():
        with open(os.path.join(out, *name.split("/")), "wb") as f:
            f.write(data)
    with open(os.path.join(out, "README.md"), "w", encoding="utf-8") as f:
        f.write(page)
    with open(os.path.join(out, ".gitattributes"), "w") as f:
        f.write("*.json -text\n*.reencoded -text\n*.txt -text\n")
    print(f"{len(files)} files")


def verify(root):
    failed = 0

    def report(ok, path, outcome):
        nonlocal failed
        failed += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {path}: {outcome}")

    def read(*path):
        with open(os.path.join(root, *path), "rb") as f:
            return f.read()

    for sub, table in (("accept", ACCEPT), ("reject", REJECT)):
        known = {t[0] + ".json" for t in table}
        for f in sorted(os.listdir(os.path.join(root, sub))):
            if f.endswith(".json") and f not in known:
                report(False, f"{sub}/{f}", "not a case of this script")
    for name, data, _ in ACCEPT:
        on_disk = read("accept", name + ".json")
        again = decode(name, on_disk)
        ok = on_disk == data and again is not None and again == read("accept", name + ".reencoded")
        report(ok, f"accept/{name}.json", "decoded" if again is not None else "refused by Python")
    for name, data, _, python_decodes in REJECT:
        on_disk = read("reject", name + ".json")
        decoded = decode(name, on_disk) is not None
        if name in DEEP and sys.version_info >= (3, 12):
            python_decodes = decoded
        ok = on_disk == data and decoded == python_decodes
        report(ok, f"reject/{name}.json",
               "decoded by Python, refused by us" if decoded else "refused")
    for f in sorted(os.listdir(root)):
        if f.endswith(".json"):
            data = read(f)
            report(decode(f, data) == data, f, "survives decode and encode")
    print(f"{failed} disagreements")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description="Capture golden wire bytes from the real Python package.")
    parser.add_argument("--verify", action="store_true", help="check DIR instead of writing it")
    parser.add_argument("dir", metavar="DIR")
    args = parser.parse_args()
    cases()
    if args.verify:
        sys.exit(verify(args.dir))
    capture(args.dir)


if __name__ == "__main__":
    main()
