"""everview.toml: how a project is run. It never holds meaning; definitions do.

Every setting has a default, and a variable EVERVIEW_<SECTION>_<KEY> that overrides the file.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from schemas import schedule
from schemas.ages import Ages, KeptFor, key_of
from schemas.errors import DefinitionError, Problem

FILE = "everview.toml"
PREFIX = "EVERVIEW_"
REBUILD = "rebuild"
"""The section whose keys are names of views."""
RETENTION, STREAMS, VIEWS = "retention", "streams", "views"
"""The section with tables of its own, whose keys are names of streams and of views."""

HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9a-fA-F:]+")
FILE_PATH = re.compile(r"[\w./~@+-]*")
SIZE = re.compile(r"[1-9]\d{0,5}[mg]", re.IGNORECASE)
SERVER = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):([1-9]\d{0,4})")
MEMORY = re.compile(r"[1-9]\d{0,5}(\.\d{1,3})? ?[KMGT]i?B")
SPAN = re.compile(r"(\d{1,9})(?: (second|minute|hour|day)s?|([smhd]))")
UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day"}
LONGEST = timedelta(days=3653)
MASTER = re.compile(r"local(\[[\d*]+(,\d+)?\])?|(spark|k8s|yarn)(://\S+)?")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that stand for all of this machine, and the one of them that it asks itself."""
STACK = "the stack: `everview down`, `everview up`"
NOTHING = "nothing: each command reads it"
DEPLOY = "nothing: `everview deploy` tells Airflow"


@dataclass(frozen=True)
class Rule:
    """What a setting may be; `allowed` says it in words, `read` makes of it what is meant.

    `meaning` says what it is for, in one line, and `restart` what has to be started again before
    a change of it counts. docs/settings.md and the everview.toml of `everview init` show them.
    """

    type: type
    default: Any
    allowed: str
    fits: Callable[[Any], bool] = lambda _: True
    read: Callable[[Any], Any] = lambda value: value
    meaning: str = field(kw_only=True)
    restart: str = field(default=STACK, kw_only=True)


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: pattern.fullmatch(value) is not None


def _servers(value: str) -> bool:
    return not value or all(SERVER.fullmatch(one.strip()) for one in value.split(","))


def span(text: str) -> timedelta:
    """The span of time that a text such as "1 day" or "1d" says; a negative one where it says
    none."""
    found = SPAN.fullmatch(text)
    if found is None:
        return timedelta(-1)
    return timedelta(**{f"{found[2] or UNITS[found[3]]}s": int(found[1])})


def _is_span(text: str) -> bool:
    return timedelta(0) <= span(text) <= LONGEST


def _is_long_span(text: str) -> bool:
    """Longer than a task or a reader takes for a file that it knows."""
    return timedelta(minutes=1) <= span(text) <= LONGEST


def _is_age(text: str) -> bool:
    return not text or _is_long_span(text)


def _age(text: str) -> timedelta | None:
    return span(text) if text else None


def size(text: str) -> int:
    """The bytes that a text says: 64m, 1g."""
    return int(text[:-1]) << (20 if text[-1] in "mM" else 30)


ARCHIVE = re.compile(r"(\S.*\.zip)?")
POOL = re.compile(r"\w[\w.-]{0,249}")

SPAN_WORDS = "a span of time up to 10 years such as '1 day' or '90 seconds'"
AGE_WORDS = "'' (for ever), or a span of time up to 10 years such as '90d' or '12 hours'"
SIZE_WORDS = "a size such as 512m or 1g"


def _port(meaning: str) -> Rule:
    words = "0 (a free port) to 65535"
    return Rule(int, 0, words, lambda port: 0 <= port <= 65535, meaning=meaning)


RULES: Mapping[str, Mapping[str, Rule]] = {
    "kafka": {
        "bootstrap_servers": Rule(
            str,
            "",
            "HOST:PORT[,HOST:PORT...], or '' for a broker of the stack's own",
            _servers,
            meaning="the Kafka whose topics are read; '' starts a broker of the stack's own",
        ),
        "create_topics": Rule(
            bool,
            False,
            "true or false",
            meaning="make missing topics on a Kafka that is not the stack's own",
        ),
        "port": _port(
            "where the stack's own broker listens; a free port is kept from start to start"
        ),
        "heap": Rule(
            str, "512m", SIZE_WORDS, _matches(SIZE), meaning="Java heap of the stack's own broker"
        ),
    },
    "streaming": {
        "master": Rule(
            str,
            "local[2,4]",
            "a Spark master such as local[2,4] or spark://H:P",
            _matches(MASTER),
            meaning="where micro-batches run; local[2,4]: two threads, four attempts for a task",
        ),
        "driver_memory": Rule(
            str, "1g", SIZE_WORDS, _matches(SIZE), meaning="Java heap of the streaming driver"
        ),
        "max_events_per_epoch": Rule(
            int,
            200_000,
            "1 to 100000000",
            lambda count: 1 <= count <= 100_000_000,
            meaning="how much of a backlog one micro-batch takes",
        ),
        "seal_every": Rule(
            str,
            "1 minute",
            f"{SPAN_WORDS}; '0 seconds': never",
            _is_span,
            span,
            meaning="how old an epoch gets before it is sealed into the master",
        ),
        "seal_bytes": Rule(
            str,
            "64m",
            SIZE_WORDS,
            _matches(SIZE),
            size,
            meaning="bytes of segments that are sealed sooner",
        ),
        "keep_removed": Rule(
            str,
            "10 minutes",
            f"{SPAN_WORDS}, 1 minute at least",
            _is_long_span,
            span,
            meaning="how long a replaced file stays on the disk for those who still read it",
        ),
    },
    "batch": {
        "master": Rule(
            str,
            "local[2,4]",
            "a Spark master such as local[2,4] or spark://H:P",
            _matches(MASTER),
            meaning="where rebuilds run",
            restart=NOTHING,
        ),
        "driver_memory": Rule(
            str,
            "1g",
            SIZE_WORDS,
            _matches(SIZE),
            meaning="Java heap of a rebuild's driver",
            restart=NOTHING,
        ),
        "memory": Rule(
            str,
            "1GB",
            "DuckDB's memory such as 512MB or 2GB",
            _matches(MEMORY),
            meaning="memory of DuckDB in a task of a rebuild, in a proof and in `verify`",
            restart=NOTHING,
        ),
        "proof_rows": Rule(
            int,
            20_000_000,
            "0 to 1000000000000",
            lambda count: 0 <= count <= 1_000_000_000_000,
            meaning="rows of the master up to which every proof reads all of it",
            restart=NOTHING,
        ),
        "rollback_window": Rule(
            str,
            "1 day",
            SPAN_WORDS,
            _is_span,
            span,
            meaning="how long a replaced publication can be gone back to",
            restart=NOTHING,
        ),
        "full_every": Rule(
            int,
            0,
            "0 (only where it is asked for) to 100000",
            lambda n: 0 <= n <= 100_000,
            meaning="every n-th build of a view is made from the whole master",
            restart=NOTHING,
        ),
        "py_files": Rule(
            str,
            "",
            "the path or address of an everview.zip, or '' where everview is installed",
            _matches(ARCHIVE),
            meaning="what Airflow sends to the machines of a cluster; a path is of the project",
            restart=DEPLOY,
        ),
        "pool": Rule(
            str,
            "default_pool",
            "the name of a pool of Airflow's such as builds",
            _matches(POOL),
            meaning="the pool in which Airflow runs the tasks of builds",
            restart=DEPLOY,
        ),
    },
    RETENTION: {
        "master": Rule(
            str,
            "",
            AGE_WORDS,
            _is_age,
            _age,
            meaning="how long events are kept; their totals are for ever. [retention.streams] says "
            "it by stream; [retention.views] how long a view keeps its groups",
            restart=f"{STACK}; {DEPLOY.removeprefix('nothing: ')}",
        ),
    },
    "serving": {
        "host": Rule(
            str,
            "127.0.0.1",
            f"an address of this machine; another one than {', '.join(LOOPBACK)} needs tokens",
            _matches(HOST),
            meaning="the address that queries are answered on",
        ),
        "port": _port("where queries are answered; a free port is kept from start to start"),
        "tokens": Rule(
            str,
            "",
            "the path of a file, or '' to let anybody of this machine ask",
            _matches(FILE_PATH),
            meaning="the file that says who may ask; `everview token NAME` fills it, and it is "
            "read again when it changes; a path is of the project",
        ),
        "disk_floor": Rule(
            str,
            "1g",
            SIZE_WORDS,
            _matches(SIZE),
            size,
            meaning="what the disk of the state must have left for serving to be ready",
        ),
        "freshness_limit": Rule(
            str,
            "",
            "'' (none), or a span of time such as '1 minute'",
            lambda text: not text or (_is_span(text) and span(text) > timedelta(0)),
            _age,
            meaning="how old answers may be for serving to be ready",
        ),
    },
    "airflow": {
        "own": Rule(
            bool,
            True,
            "true or false",
            meaning="whether the stack brings an Airflow of its own",
        ),
        "port": _port("where that Airflow's pages are; a free port is kept from start to start"),
    },
}

SECTIONS = (*RULES, REBUILD)


def written(value: object) -> str:
    """A value as TOML has it: JSON's form of texts, numbers, true and false is that."""
    return json.dumps(value)


@dataclass(frozen=True)
class KafkaSettings:
    """`create_topics` is about a broker that is not the stack's own; there, topics are made."""

    bootstrap_servers: str
    create_topics: bool
    port: int
    heap: str

    @property
    def own(self) -> bool:
        """Whether the stack brings its own broker."""
        return not self.bootstrap_servers


@dataclass(frozen=True)
class StreamingSettings:
    """How the Spark driver is run."""

    master: str
    driver_memory: str
    max_events_per_epoch: int
    seal_every: timedelta  # 0: never
    seal_bytes: int
    keep_removed: timedelta


@dataclass(frozen=True)
class BatchSettings:
    """How views are rebuilt."""

    master: str
    driver_memory: str
    memory: str
    proof_rows: int
    rollback_window: timedelta
    full_every: int
    py_files: str  # what executors are sent when Airflow submits a build
    pool: str  # in which Airflow runs builds


@dataclass(frozen=True)
class ServingSettings:
    """Where queries are answered, to whom, and when that is as it should be."""

    host: str
    port: int
    tokens: str  # the path of a file; "": to anybody
    disk_floor: int  # bytes
    freshness_limit: timedelta | None

    @property
    def near(self) -> str:
        """The address at which this machine asks."""
        return EVERY.get(self.host, self.host)


@dataclass(frozen=True)
class AirflowSettings:
    """Whether the stack brings its own Airflow, and where that answers."""

    own: bool
    port: int


@dataclass(frozen=True)
class RebuildSetting:
    """When one view is rebuilt, and where that was said."""

    view: str
    schedule: str
    file: str
    line: int
    column: int


@dataclass(frozen=True)
class RebuildSettings:
    """[rebuild]: schedules by names of views, over those that definitions have."""

    views: tuple[RebuildSetting, ...] = ()

    def of(self, view: str) -> str | None:
        """The schedule that a view was given, if it was given one."""
        same = (each for each in self.views if each.view.lower() == view.lower())
        return next((each.schedule for each in same), None)

    def unknown(self, views: Iterable[str]) -> list[Problem]:
        """What is set for other views than these."""
        known = {name.lower(): name for name in views}
        return [
            Problem(
                each.file,
                each.line,
                each.column,
                f"{REBUILD}.{each.view} must name a view{_near(each.view, known)}",
            )
            for each in self.views
            if each.view.lower() not in known
        ]


@dataclass(frozen=True)
class NamedAge:
    """How long the events of a stream or the groups of a view are kept, and where that was said."""

    name: str
    age: timedelta | None  # None: for ever
    key: str | None  # of a view: the time by which its groups are kept; None: the only one
    file: str
    line: int
    column: int


@dataclass(frozen=True)
class RetentionSettings:
    """How long the master is kept."""

    master: timedelta | None = None  # None: for ever
    streams: tuple[NamedAge, ...] = ()
    views: tuple[NamedAge, ...] = ()

    @property
    def ages(self) -> Ages:
        """As the layers are told."""
        return Ages(self.master, {each.name: each.age for each in self.streams})

    @property
    def keep(self) -> dict[str, KeptFor]:
        """As batch is told."""
        listed = ((each.name.lower(), each.age, each.key) for each in self.views)
        return {name: KeptFor(age, key) for name, age, key in listed if age is not None}

    def wrong(self, streams: Iterable[str], views: Mapping[str, Sequence[str]]) -> list[Problem]:
        """What is set for other streams than these, or for other views; of views it is known by
        which keys that are times they can keep their groups."""
        known = {name.lower(): name for name in streams}
        times = {name.lower(): keys for name, keys in views.items()}
        problems = []
        for each in self.streams:
            if each.name.lower() not in known:
                problems.append(_at(each, STREAMS, f"must name a stream{_near(each.name, known)}"))
        for each in self.views:
            keys = times.get(each.name.lower())
            if keys is None:
                problems.append(_at(each, VIEWS, f"must name a view{_near(each.name, times)}"))
            elif each.age is not None:
                key, why = key_of(keys, each.key)
                problems += [] if key is not None else [_at(each, VIEWS, f"cannot be kept: {why}")]
        return problems


def _at(age: NamedAge, table: str, message: str) -> Problem:
    return Problem(age.file, age.line, age.column, f"{RETENTION}.{table}.{age.name} {message}")


@dataclass(frozen=True)
class Settings:
    """All of everview.toml, defaults filled in."""

    kafka: KafkaSettings
    streaming: StreamingSettings
    batch: BatchSettings
    serving: ServingSettings
    airflow: AirflowSettings
    rebuild: RebuildSettings
    retention: RetentionSettings = RetentionSettings()


def load(project: Path, environment: Mapping[str, str]) -> Settings:
    """The settings of a project folder. DefinitionError lists everything that is wrong."""
    file = project / FILE
    text = file.read_text(encoding="utf-8", errors="surrogateescape") if file.exists() else ""
    found = _File(text)
    schedules: dict[str, RebuildSetting] = {}
    ages: dict[str, dict[str, NamedAge]] = {STREAMS: {}, VIEWS: {}}
    values = {s: {k: rule.default for k, rule in rules.items()} for s, rules in RULES.items()}
    for name, section in found.content.items():
        if name not in SECTIONS:
            found.wrong(name, None, f"unknown section [{name}]{_near(name, SECTIONS)}")
            continue
        if not isinstance(section, dict):
            found.wrong(name, None, f"[{name}] must be a section; got {section!r}")
            continue
        if name == REBUILD:
            schedules = found.schedules(section)
            continue
        for key, value in section.items():
            if name == RETENTION and key in ages:
                ages[key] = found.ages(key, value)
                continue
            message = _refusal(name, key, value)
            if message:
                found.wrong(name, key, message)
            else:
                values[name][key] = value
    set_, wrong = _schedules_set(schedules, environment)
    ages, wrong_ages = _ages_set(ages, environment)  # by the names of their tables
    wrong_values = _override(values, environment)
    if values["serving"]["host"] not in LOOPBACK and not values["serving"]["tokens"]:
        wrong_values += found.open_host(values["serving"]["host"], environment)
    problems = [*found.problems, *wrong, *wrong_ages, *wrong_values]
    if problems:
        raise DefinitionError([_with_line(each, text) for each in problems])
    meant = {
        name: {key: rule.read(values[name][key]) for key, rule in rules.items()}
        for name, rules in RULES.items()
    }
    return Settings(
        KafkaSettings(**meant["kafka"]),
        StreamingSettings(**meant["streaming"]),
        BatchSettings(**meant["batch"]),
        ServingSettings(**meant["serving"]),
        AirflowSettings(**meant["airflow"]),
        RebuildSettings(tuple(set_.values())),
        RetentionSettings(
            **meant[RETENTION],
            streams=tuple(ages[STREAMS].values()),
            views=tuple(ages[VIEWS].values()),
        ),
    )


def _refusal(section: str, key: str, value: object) -> str | None:
    """Why a value cannot be that setting; None if it can."""
    rule = RULES[section].get(key)
    if rule is None:
        return f"unknown setting {section}.{key}{_near(key, RULES[section])}"
    if type(value) is not rule.type or not rule.fits(value):
        return f"{section}.{key} must be {rule.allowed}; got {value!r}"
    return None


def _near(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def _override(values: dict[str, dict[str, Any]], environment: Mapping[str, str]) -> list[Problem]:
    """Puts EVERVIEW_<SECTION>_<KEY> over the values; gives what is wrong with them."""
    problems = []
    for variable, text in sorted(environment.items()):
        section, _, key = variable.removeprefix(PREFIX).lower().partition("_")
        if not variable.startswith(PREFIX) or section not in RULES:
            continue
        if section == RETENTION and key.startswith((f"{STREAMS}_", f"{VIEWS}_")):
            continue
        rule = RULES[section].get(key)
        value: object = text
        if rule is not None and rule.type is int and re.fullmatch(r"-?\d{1,18}", text):
            value = int(text)
        elif rule is not None and rule.type is bool:
            value = {"true": True, "false": False}.get(text.lower(), text)
        message = _refusal(section, key, value)
        if message:
            problems.append(Problem(f"${variable}", 1, 1, message))
        else:
            values[section][key] = value
    return problems


def _with_line(problem: Problem, text: str) -> Problem:
    """A problem with the line of the file that it is about, if it is about one."""
    lines = text.encode(errors="replace").decode().splitlines()
    if problem.file != FILE or problem.line > len(lines):
        return problem
    source = lines[problem.line - 1]
    word = re.match(r"[\w.]*", source[problem.column - 1 :])
    return replace(problem, source=source, length=max(1, word.end() if word else 1))


def _schedules_set(
    schedules: Mapping[str, RebuildSetting], environment: Mapping[str, str]
) -> tuple[dict[str, RebuildSetting], list[Problem]]:
    """EVERVIEW_REBUILD_<VIEW> over the schedules of the file; what is wrong with them."""
    found, problems = dict(schedules), []
    prefix = f"{PREFIX}{REBUILD.upper()}_"
    for variable, text in sorted(environment.items()):
        if not variable.startswith(prefix):
            continue
        view = variable.removeprefix(prefix).lower()
        message = _schedule_refusal(view, text)
        if message:
            problems.append(Problem(f"${variable}", 1, 1, message))
        found[view] = RebuildSetting(view, text, f"${variable}", 1, 1)
    return found, problems


def _ages_set(
    ages: Mapping[str, Mapping[str, NamedAge]], environment: Mapping[str, str]
) -> tuple[dict[str, dict[str, NamedAge]], list[Problem]]:
    """EVERVIEW_RETENTION_STREAMS_<STREAM> and EVERVIEW_RETENTION_VIEWS_<VIEW> over what the file
    says; what is wrong with them."""
    found, problems = {table: dict(listed) for table, listed in ages.items()}, []
    for table, listed in found.items():
        prefix = f"{PREFIX}{RETENTION.upper()}_{table.upper()}_"
        for variable, text in sorted(environment.items()):
            if not variable.startswith(prefix):
                continue
            name = variable.removeprefix(prefix).lower()
            message = _age_refusal(table, name, text)
            if message:
                problems.append(Problem(f"${variable}", 1, 1, message))
            else:
                listed[name] = NamedAge(name, _age(text), None, f"${variable}", 1, 1)
    return found, problems


def _age_refusal(table: str, name: str, value: object) -> str | None:
    """Why a value cannot be that age; of a view it may be a table with the key beside."""
    age, words = value, AGE_WORDS
    if table == VIEWS:
        words = f'{AGE_WORDS}, or {{keep = "400d", key = "hour"}}'
        if isinstance(value, dict) and set(value) == {"keep", "key"}:
            age = value["keep"] if isinstance(value["key"], str) and value["key"] else None
    if isinstance(age, str) and _is_age(age):
        return None
    return f"{RETENTION}.{table}.{name} must be {words}; got {value!r}"


def _schedule_refusal(view: str, value: object) -> str | None:
    if isinstance(value, str) and schedule.fits(value):
        return None
    return f"{REBUILD}.{view} must be {schedule.ALLOWED}; got {value!r}"


@dataclass
class _File:
    """The text of everview.toml, what it holds, and what is wrong with it."""

    text: str
    content: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        try:
            self.text.encode()
            self.content = tomllib.loads(self.text)
        except UnicodeEncodeError as error:
            line = self.text.count("\n", 0, error.start) + 1
            self.problems.append(Problem(FILE, line, 1, "must be UTF-8; got other bytes"))
        except tomllib.TOMLDecodeError as error:
            place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
            line, column = (int(place[1]), int(place[2])) if place else (self._last_line(), 1)
            message = re.sub(r" \(at .*\)$", "", str(error))
            self.problems.append(Problem(FILE, line, column, f"must be TOML; {message}"))

    def _last_line(self) -> int:
        return max(1, len(self.text.splitlines()))

    def schedules(self, section: Mapping[str, object]) -> dict[str, RebuildSetting]:
        """What [rebuild] says, by names of views in lower case."""
        found: dict[str, RebuildSetting] = {}
        for view, value in section.items():
            message = _schedule_refusal(view, value)
            if view.lower() in found:
                message = f"{REBUILD}.{view} must stand once, whatever its case"
            if message:
                self.wrong(REBUILD, view, message)
            else:
                place = self._place(REBUILD, view)
                found[view.lower()] = RebuildSetting(view, str(value), FILE, *place)
        return found

    def ages(self, table: str, section: object) -> dict[str, NamedAge]:
        """What [retention.streams] or [retention.views] says, by names in lower case."""
        inside = f"{RETENTION}.{table}"
        if not isinstance(section, dict):
            self.wrong(RETENTION, table, f"[{inside}] must be a section; got {section!r}")
            return {}
        found: dict[str, NamedAge] = {}
        for name, value in section.items():
            message = _age_refusal(table, name, value)
            if name.lower() in found:
                message = f"{inside}.{name} must stand once, whatever its case"
            if message:
                self.wrong(inside, name, message)
                continue
            place = self._place(inside, name)
            text, key = (value["keep"], value["key"]) if isinstance(value, dict) else (value, None)
            found[name.lower()] = NamedAge(name, _age(text), key, FILE, *place)
        return found

    def wrong(self, section: str, key: str | None, message: str) -> None:
        self.problems.append(Problem(FILE, *self._place(section, key), message))

    def open_host(self, host: str, environment: Mapping[str, str]) -> list[Problem]:
        """What is wrong with an address that others can reach, where anybody may ask."""
        message = (
            f"serving.host must be one of {', '.join(LOOPBACK)} while serving.tokens names no file "
            f"that says who may ask; got {host!r}"
        )
        variable = f"{PREFIX}SERVING_HOST"
        if variable in environment:
            return [Problem(f"${variable}", 1, 1, message)]
        return [Problem(FILE, *self._place("serving", "host"), message)]

    def _place(self, section: str, key: str | None) -> tuple[int, int]:
        """Line and column of a section or a key of it, as far as a look at the lines tells."""
        inside = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            header = re.match(r"\s*\[+\s*\"?([^\]\"]+?)\"?\s*\]", line)
            inside = header[1] if header else inside
            here = re.match(r"\s*\"?([^\s\"=.]+)\"?\s*[=.]\s*\"?([^\s\"=]*)", line)
            named = None if header or here is None else here[1]
            wanted = section if key is None else key
            if (header and key is None and inside == section) or (
                named == wanted and inside == ("" if key is None else section)
            ):
                return number, line.index(wanted) + 1
            if here and key is not None and (inside, named, here[2]) == ("", section, key):
                return number, line.index(key) + 1
        return 1, 1
