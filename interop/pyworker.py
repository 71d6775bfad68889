"""The Python side of the interop tests: the twin of the Go program goworker.

    python interop/pyworker.py worker
    python interop/pyworker.py enqueue ACTOR [--queue Q] [--args JSON] [--kwargs JSON]
                                             [--option K=V]... [--delay DURATION]
    python interop/pyworker.py enqueue --stdin

The contract (environment, actors, ledger, exit codes) is in interop/README.md.
Needs the packages of interop/requirements.txt.
"""

import argparse
import json
import logging
import os
import re
import signal
import sys
import threading
import time
from fractions import Fraction
from urllib.parse import urlsplit

import dramatiq
from dramatiq.middleware import GroupCallbacks, Interrupt, Middleware

LEDGER = "interop:ledger"
ATTEMPTS = "interop:attempts:"
DEATHS = "interop:die"

log = logging.getLogger("pyworker")


class ConfigError(Exception):
    """The environment or the command line asks for something impossible."""


class InteropError(Exception):
    """What the failing actors fail with."""


def env(name, default=""):
    """An empty variable counts as unset."""
    return os.environ.get(name) or default


def env_int(name, default):
    value = env(name)
    if not value:
        return default
    try:
        return int(value)
    except ValueError:
        raise ConfigError(f"{name} must be an integer, not {value!r}") from None


def env_bool(name):
    value = env(name).lower()
    if value in ("", "0", "false", "no", "off"):
        return False
    if value in ("1", "true", "yes", "on"):
        return True
    raise ConfigError(f"{name} must be a boolean such as 1 or 0, not {value!r}")


_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1, "us": Fraction(1, 10**3), "\u00b5s": Fraction(1, 10**3),
          "\u03bcs": Fraction(1, 10**3), "ns": Fraction(1, 10**6)}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|\u00b5s|\u03bcs|ns)")


def duration_ms(text):
    """Milliseconds in a duration as Go writes it: 300ms, 1.5s, 2m, 1h30m, 0."""
    if text == "0":
        return 0
    position, total = 0, Fraction(0)
    while position < len(text):
        part = _PART.match(text, position)
        if not part:
            break
        number = part.group(1)
        total += Fraction(number + "0" if number.endswith(".") else number) * _UNITS[part.group(2)]
        position = part.end()
    if not text or position < len(text):
        raise ValueError(f"not a duration: {text!r} (write 300ms, 1.5s, 2m or 1h30m)")
    return int(total)


# ---------------------------------------------------------------------------
# Ledger.

_ledger = None


def ledger():
    """The Redis that records runs and holds the counters of flaky and die."""
    global _ledger
    if _ledger is None:
        url = env("INTEROP_LEDGER_URL")
        if not url:
            raise ConfigError("INTEROP_LEDGER_URL is not set; this needs the ledger Redis")
        import redis

        _ledger = redis.Redis.from_url(url)
    return _ledger


class Ledger(Middleware):
    """Records every run, failed ones too. Appended last, so it sees them before anything reacts to the outcome."""

    def __init__(self):
        self.running = threading.local()

    def before_process_message(self, broker, message):
        retries = message.options.get("retries")
        self.running.since = (int(time.time() * 1000), retries + 1 if isinstance(retries, int) else 1)

    def after_process_message(self, broker, message, *, result=None, exception=None):
        since, self.running.since = getattr(self.running, "since", None), None
        if since is None:
            return
        ledger().rpush(LEDGER, json.dumps({
            "actor": message.actor_name,
            "message_id": message.message_id,
            "lang": "python",
            "pid": os.getpid(),
            "attempt": since[1],
            "start_ms": since[0],
            "end_ms": int(time.time() * 1000),
            "outcome": "ok" if exception is None else "error",
            "args": message.args,
            "kwargs": message.kwargs,
        }, separators=(",", ":")))

    def after_skip_message(self, broker, message):
        self.running.since = None


# ---------------------------------------------------------------------------
# Actors.


def echo(value):
    return value


def add(x, y):
    return x + y


def fail(message):
    raise InteropError(message)


def flaky(key, failures):
    attempt = ledger().incr(ATTEMPTS + str(key))
    if attempt <= failures:
        raise InteropError(f"attempt {attempt} of {key}")
    return attempt


def sleep(ms):
    end = time.monotonic() + ms / 1000
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.01))


def busy(ms):
    end = time.monotonic() + ms / 1000
    while time.monotonic() < end:
        try:
            while time.monotonic() < end:
                time.sleep(0.005)  # without it eight of these would starve the heartbeat
        except Interrupt:
            pass


def die():
    ledger().incr(DEATHS)
    os.kill(os.getpid(), signal.SIGKILL)


def urgent(tag):
    return tag


def note(*args, **kwargs):
    return None


def declare_actors(broker):
    for fn in (echo, add, fail, sleep, busy, die):
        dramatiq.actor(fn, broker=broker)
    dramatiq.actor(flaky, broker=broker, min_backoff=50, max_backoff=200)
    dramatiq.actor(urgent, broker=broker, queue_name="ranked")
    dramatiq.actor(note, broker=broker, queue_name="callbacks")


# ---------------------------------------------------------------------------
# Broker.


def make_broker():
    url = env("DRAMATIQ_BROKER_URL")
    if not url:
        raise ConfigError("DRAMATIQ_BROKER_URL is not set")
    scheme = urlsplit(url).scheme
    if scheme in ("redis", "rediss"):
        from dramatiq.brokers.redis import RedisBroker

        options = {}
        if env("INTEROP_MAINTENANCE_CHANCE"):
            options["maintenance_chance"] = env_int("INTEROP_MAINTENANCE_CHANCE", None)
        try:
            heartbeat = duration_ms(env("DRAMATIQ_HEARTBEAT_TIMEOUT", "60s"))
        except ValueError as e:
            raise ConfigError(f"DRAMATIQ_HEARTBEAT_TIMEOUT: {e}") from None
        return RedisBroker(
            url=url, namespace=env("INTEROP_NAMESPACE", "dramatiq"), heartbeat_timeout=heartbeat, **options
        )
    if scheme in ("amqp", "amqps"):
        from dramatiq.brokers.rabbitmq import RabbitmqBroker

        return RabbitmqBroker(
            url=url, confirm_delivery=env_bool("INTEROP_CONFIRM"), max_priority=env_int("INTEROP_MAX_PRIORITY", None)
        )
    if scheme.startswith("sqlite") or scheme == "file":
        raise ConfigError("DRAMATIQ_BROKER_URL: sqlite is Go only")
    raise ConfigError(f"DRAMATIQ_BROKER_URL: unknown scheme {scheme!r}; use redis, rediss, amqp or amqps")


def add_results(broker):
    """Results and GroupCallbacks on the server of INTEROP_RESULTS_URL, if there is one."""
    url = env("INTEROP_RESULTS_URL")
    if not url:
        return
    from dramatiq.results import Results

    scheme = urlsplit(url).scheme
    if scheme in ("redis", "rediss"):
        from dramatiq.rate_limits.backends import RedisBackend as LimiterBackend
        from dramatiq.results.backends import RedisBackend as ResultBackend

        results, limiter = ResultBackend(url=url), LimiterBackend(url=url)
    elif scheme == "memcached":
        try:
            import pylibmc  # noqa: F401
        except ImportError:
            raise ConfigError("INTEROP_RESULTS_URL: memcached needs pylibmc, which is not installed") from None
        from dramatiq.rate_limits.backends import MemcachedBackend as LimiterBackend
        from dramatiq.results.backends import MemcachedBackend as ResultBackend

        servers = [urlsplit(url).netloc or "127.0.0.1:11211"]
        results, limiter = ResultBackend(servers=servers), LimiterBackend(servers=servers)
    else:
        raise ConfigError(f"INTEROP_RESULTS_URL: unknown scheme {scheme!r}; use redis, rediss or memcached")
    broker.add_middleware(Results(backend=results, store_results=True))
    broker.add_middleware(GroupCallbacks(limiter))


# ---------------------------------------------------------------------------
# Commands.


def run_worker():
    stop = threading.Event()

    def on_signal(signum, frame):
        if stop.is_set():
            os._exit(1)
        stop.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, on_signal)

    broker = make_broker()
    add_results(broker)
    if env("INTEROP_LEDGER_URL"):
        broker.add_middleware(Ledger())
    dramatiq.set_broker(broker)
    declare_actors(broker)
    queues = {q.strip() for q in env("INTEROP_QUEUES").split(",") if q.strip()}
    for queue in sorted(queues):
        broker.declare_queue(queue)  # consumed even if no actor is declared on it
    # The package's command line emits this; without it the time limit middleware never starts.
    broker.emit_after("process_boot")
    worker = dramatiq.Worker(
        broker,
        queues=queues or None,
        worker_threads=env_int("INTEROP_CONCURRENCY", 8),
        worker_timeout=100,
    )
    worker.start()
    log.info("worker started: queues %s", ", ".join(sorted(queues)) or "all")
    while not stop.wait(1):
        pass
    log.info("stopping")
    worker.stop()
    broker.close()
    log.info("stopped")


class Sender:
    def __init__(self):
        self.broker = make_broker()

    def send(self, actor, queue, args, kwargs, options, delay):
        """Enqueues for an actor this program need not know, and prints the id once the broker has it."""
        if not isinstance(args, list) or not isinstance(kwargs, dict) or not isinstance(options, dict):
            raise ConfigError("args must be a JSON array, kwargs and options JSON objects")
        message = dramatiq.Message(
            queue_name=queue, actor_name=actor, args=tuple(args), kwargs=kwargs, options=options
        )
        self.broker.declare_queue(queue)
        self.broker.enqueue(message, delay=delay)
        print(message.message_id, flush=True)


def run_enqueue(args):
    if args.stdin:
        if args.actor is not None:
            raise ConfigError("--stdin takes no ACTOR")
        sender = Sender()
        for number, line in enumerate(sys.stdin, 1):
            if not line.strip():
                continue
            try:
                job = json.loads(line)
                actor = job["actor"]
            except (ValueError, TypeError, KeyError) as e:
                raise ConfigError(f"line {number}: {type(e).__name__}: {e}") from None
            sender.send(
                actor,
                job.get("queue") or "default",
                job.get("args") or [],
                job.get("kwargs") or {},
                job.get("options") or {},
                job.get("delay_ms"),
            )
        return
    if args.actor is None:
        raise ConfigError("name an ACTOR, or give --stdin")
    options = {}
    for option in args.option:
        name, separator, value = option.partition("=")
        if not name or not separator:
            raise ConfigError(f"--option wants K=V, not {option!r}")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    delay = None
    try:
        positional, keyword = json.loads(args.args), json.loads(args.kwargs)
        if args.delay is not None:
            delay = duration_ms(args.delay)
    except ValueError as e:
        raise ConfigError(str(e)) from None
    Sender().send(args.actor, args.queue, positional, keyword, options, delay)


def main():
    parser = argparse.ArgumentParser(description="The Python side of the interop tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("worker", help="run a worker until TERM or INT")
    enqueue = commands.add_parser("enqueue", help="send messages and print their ids")
    enqueue.add_argument("actor", nargs="?", metavar="ACTOR")
    enqueue.add_argument("--queue", default="default")
    enqueue.add_argument("--args", default="[]", metavar="JSON")
    enqueue.add_argument("--kwargs", default="{}", metavar="JSON")
    enqueue.add_argument("--option", action="append", default=[], metavar="K=V")
    enqueue.add_argument("--delay", metavar="DURATION")
    enqueue.add_argument("--stdin", action="store_true", help="read one JSON object a line instead")
    args = parser.parse_args()

    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr,
        format="[%(asctime)s] [PID %(process)d] [%(threadName)s] [%(name)s] [%(levelname)s] %(message)s",
    )
    logging.getLogger("pika").setLevel(logging.WARNING)
    try:
        if args.command == "worker":
            run_worker()
        else:
            run_enqueue(args)
    except ConfigError as e:
        print(f"pyworker.py: {e}", file=sys.stderr)
        return 2
    except Exception as e:
        log.exception("failed")
        print(f"pyworker.py: {type(e).__name__}: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
