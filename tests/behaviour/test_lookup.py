"""Natural keys become ids: in stages side by side, and through a real Redis that misbehaves."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import psycopg
import pytest
import redis
from psycopg.pq import TransactionStatus
from redis.asyncio import Redis as AsyncRedis

import sqlkit as api
from sqlkit.errors import SqlkitError
from sqlkit.lookup import KeyCache
from sqlkit.lookup_async import AsyncKeyCache
from sqlkit.server import free_port
from tests.conftest import Database, missing

WORDS = [f"code {number}" for number in range(500)]
Cache = Callable[..., KeyCache]


class RedisServer:
    """Debian's redis-server, with little memory, that a test may stop and start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.client = redis.Redis(port=self.port, socket_timeout=1)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, memory: str = "64mb", policy: str = "allkeys-lru") -> None:
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "save": "",
            "dir": str(self.folder),
            "maxmemory": memory,
            "maxmemory-policy": policy,
            "maxmemory-samples": "3",
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        try:
            self._process = subprocess.Popen(
                ["redis-server", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        except FileNotFoundError:
            missing("redis-server is not installed: tests/install-services.sh does it on Debian")
        for _ in range(200):
            try:
                self.client.ping()
            except redis.ConnectionError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError("redis-server did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def server_of_keys(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path)
    made.start()
    yield made
    made.client.close()
    made.stop()


@pytest.fixture
def dimension(connection: psycopg.Connection) -> psycopg.Connection:
    """A dimension with its natural key, and 300 of the words."""
    connection.execute(
        "create table word (word_id integer generated always as identity primary key,"
        " word text not null unique, length integer)"
    )
    connection.execute("insert into word (word) select unnest(%s::text[])", [WORDS[:300]])
    return connection


@pytest.fixture
def cache(dimension: psycopg.Connection, server_of_keys: RedisServer) -> Cache:
    def make(connection: psycopg.Connection = dimension, **options: object) -> KeyCache:
        return KeyCache(
            connection,
            server_of_keys.client,
            "word",
            id_column="word_id",
            key=["word"],
            **{"pause": 0.0, **options},  # type: ignore[arg-type]
        )

    return make


def known(connection: psycopg.Connection) -> dict[str, int]:
    return dict(connection.execute("select word, word_id from word").fetchall())


def test_ids_are_those_of_the_dimension(dimension: psycopg.Connection, cache: Cache) -> None:
    words = cache(defaults={"length": 7})
    found = words.get([*WORDS, None, WORDS[0]])
    ids = known(dimension)
    assert found == [*(ids[word] for word in WORDS), None, ids[WORDS[0]]]
    assert (words.hits, words.misses) == (0, 500)
    assert dimension.execute("select count(*) from word where length = 7").fetchone() == (200,)
    assert words.get(WORDS) == found[:500]
    assert (words.hits, words.misses) == (500, 500)
    assert cache(create=False).get(["nothing"]) == [None]
    assert words.get_one(WORDS[3]) == ids[WORDS[3]]


def test_what_was_warmed_is_known(dimension: psycopg.Connection, cache: Cache) -> None:
    words = cache()
    assert words.warm() == 300
    assert words.get(WORDS[:300]) == [known(dimension)[word] for word in WORDS[:300]]
    assert words.misses == 0


def test_thousands_of_keys_in_one_round_trip(
    dimension: psycopg.Connection, cache: Cache, server_of_keys: RedisServer
) -> None:
    many = [f"w{number}" for number in range(5000)]
    dimension.execute("insert into word (word) select unnest(%s::text[])", [many])
    words = cache()
    ids = words.get(many)
    server_of_keys.client.config_resetstat()
    assert words.get(many) == ids
    done = server_of_keys.client.info("commandstats")
    assert done["cmdstat_mget"]["calls"] == 1
    assert "cmdstat_get" not in done
    assert "cmdstat_set" not in done


def test_warming_leaves_no_transaction_behind(
    dimension: psycopg.Connection, database: Database, cache: Cache, server_of_keys: RedisServer
) -> None:
    """On a connection that begins a transaction with each statement, as psycopg's do."""
    with database.connect() as plain:
        plain.autocommit = False
        words = cache(plain)
        assert words.warm() == 300
        assert plain.info.transaction_status == TransactionStatus.IDLE
        found = words.get(WORDS)
        assert plain.info.transaction_status == TransactionStatus.IDLE
        # What was made is there for others, in the dimension as in Redis.
        assert [known(dimension)[word] for word in WORDS] == found
        assert server_of_keys.client.dbsize() == 500
        # Redis goes away in the middle of it.
        dimension.execute("insert into word (word) select generate_series(1, 30000)::text")
        server_of_keys.stop()
        assert words.warm() == 0
        assert plain.info.transaction_status == TransactionStatus.IDLE


def test_nothing_that_may_be_rolled_back_is_warmed(
    dimension: psycopg.Connection, database: Database, cache: Cache, server_of_keys: RedisServer
) -> None:
    with database.connect() as plain:
        plain.autocommit = False
        words = cache(plain)
        plain.execute("insert into word (word) values ('in vain')")
        assert words.warm() == 0
        plain.rollback()
        assert server_of_keys.client.dbsize() == 0
        assert words.warm() == 300
        assert cache(create=False).get(["in vain"]) == [None]


def test_a_redis_that_misbehaves_makes_it_slower_and_never_wrong(
    dimension: psycopg.Connection, cache: Cache, server_of_keys: RedisServer
) -> None:
    words = cache()

    def check() -> int:
        """All ids are right; how many of them Redis knew."""
        before = words.hits
        assert words.get(WORDS) == [known(dimension)[word] for word in WORDS]
        return words.hits - before

    words.get(WORDS)
    assert check() == 500
    server_of_keys.client.flushall()
    assert check() == 0
    for name in server_of_keys.client.keys()[:100]:
        server_of_keys.client.set(name, "nonsense")
    for name in server_of_keys.client.keys()[100:200]:
        server_of_keys.client.delete(name)
        server_of_keys.client.rpush(name, 1)
    check()
    server_of_keys.stop()
    assert check() == 0
    assert words.warm() == 0
    server_of_keys.start()
    assert check() == 0
    assert check() == 500
    server_of_keys.stop()
    # No room for anything: writing is refused.
    server_of_keys.start(memory="1", policy="noeviction")
    assert check() == 0
    assert check() == 0


def test_evictions_flushes_and_restarts_in_the_middle_of_a_load(
    dimension: psycopg.Connection, database: Database, cache: Cache, server_of_keys: RedisServer
) -> None:
    """Rows are loaded with the ids, while Redis has room for a part of them and loses them all."""
    dimension.execute("insert into word (word) select 'w' || g from generate_series(1, 20000) as g")
    dimension.execute("create table fact (word text, word_id integer references word)")
    room = server_of_keys.client.info("memory")["used_memory"] + 1_000_000
    server_of_keys.stop()
    server_of_keys.start(memory=str(room))
    stop = threading.Event()
    lost: list[str] = []

    def misbehave() -> None:
        while not stop.wait(0.1):
            if len(lost) % 2:
                server_of_keys.stop()
                server_of_keys.start(memory=str(room))
                lost.append("restart")
            else:
                server_of_keys.client.flushall()
                lost.append("flush")

    words = cache()
    loaded = 0
    thread = threading.Thread(target=misbehave)
    thread.start()
    try:
        # Each piece has half of the keys of the one before.
        while (len(lost) < 8 or loaded < 80_000) and thread.is_alive():
            first = loaded // 2 % 19_000 + 1
            chunk = [f"w{number}" for number in range(first, first + 2000)]
            ids = words.get(chunk)
            with dimension.cursor().copy("copy fact from stdin") as copy:
                for row in zip(chunk, ids, strict=True):
                    copy.write_row(row)
            loaded += len(chunk)
    finally:
        stop.set()
        thread.join()
    assert lost.count("restart") >= 4
    wrong = "count(*) filter (where w.word is distinct from f.word)"
    query = f"select count(*), {wrong} from fact as f left join word as w using (word_id)"
    assert dimension.execute(query.encode()).fetchone() == (loaded, 0)
    # It knew some, and was asked for others again.
    assert words.misses > 20_000
    assert words.hits > 0

    # Left alone it holds as many as there is room for, and drops those that were not asked for.
    for first in range(1, 20_000, 2000):
        words.get([f"w{number}" for number in range(first, first + 2000)])
    assert server_of_keys.client.info("stats")["evicted_keys"] > 1000
    assert 0.9 * room < server_of_keys.client.info("memory")["used_memory"] <= 1.1 * room
    assert 1000 < server_of_keys.client.dbsize() < 19_000


def test_a_foreign_key_refuses_an_id_that_is_not_there(
    dimension: psycopg.Connection, database: Database, cache: Cache, server_of_keys: RedisServer
) -> None:
    """Redis holds numbers that somebody else has put there."""
    dimension.execute(
        "create table fact (number integer primary key, word_id integer references word)"
    )
    words = cache()
    words.warm()
    right = words.get(WORDS[:10])
    for name in server_of_keys.client.scan_iter():
        server_of_keys.client.set(name, 10**6)
    wrong = words.get(WORDS[:10])
    assert wrong == [10**6] * 10
    rows = [{"number": n, "word_id": id_} for n, id_ in enumerate([*right, *wrong])]
    with api.connect(database.dsn) as client:
        with pytest.raises(SqlkitError):
            client.load(rows, into="public.fact")
        assert dimension.execute("select count(*) from fact").fetchone() == (0,)
        result = client.load(rows, into="public.fact", reject_limit=10)
    assert (result.rows.inserted, result.rows.rejected) == (10, 10)
    refused = "select distinct sqlstate from sqlkit.reject"
    assert dimension.execute(refused.encode()).fetchall() == [("23503",)]
    kept = dimension.execute("select word_id from fact order by number").fetchall()
    assert [id_ for (id_,) in kept] == right


def test_a_redis_that_is_away_is_left_alone_for_a_while(
    cache: Cache, server_of_keys: RedisServer
) -> None:
    words = cache(pause=60.0)
    server_of_keys.stop()
    words.get(WORDS[:10])
    server_of_keys.start()
    words.get(WORDS[:10])
    assert server_of_keys.client.dbsize() == 0


def test_changes_of_a_dimension_are_followed(dimension: psycopg.Connection, cache: Cache) -> None:
    dimension.execute("select sqlkit.follow_keys('word', 'word_id', array['word'])")
    at_once, soon, late = (cache(follow_every=seconds) for seconds in (0.0, 0.3, 600.0))
    (old,) = {words.get_one(WORDS[0]) for words in (at_once, soon, late)}
    dimension.execute("update word set word = 'renamed' where word = %s", [WORDS[0]])
    renamed, new = at_once.get(["renamed", WORDS[0]])
    assert renamed == old
    assert new not in (None, old)
    assert late.get_one(WORDS[0]) == old
    time.sleep(0.3)
    assert soon.get([WORDS[0], "renamed"]) == [new, old]
    # What a transaction has changed itself it sees, and nobody afterwards who did not.
    with dimension.transaction(force_rollback=True):
        dimension.execute("delete from word where word = %s", [WORDS[0]])
        assert late.get_one(WORDS[0]) not in (old, new)
    assert late.get_one(WORDS[0]) == old


def test_a_table_that_takes_the_place_of_a_dimension_is_known(
    dimension: psycopg.Connection, database: Database, cache: Cache
) -> None:
    """Exchanged by a refresh, or made anew; whether it is followed or not."""
    words = cache(follow_every=0.0)
    one, two = WORDS[:2]
    old = words.get([one, two])
    dimension.execute("create table other as select word_id, word, length from word")
    exchange = "update other set word = case word when %(one)s then %(two)s else %(one)s end"
    dimension.execute(exchange + " where word in (%(one)s, %(two)s)", {"one": one, "two": two})
    with database.preparing(), api.connect(database.dsn) as client:
        client.refresh("public.word", query="select * from public.other", strategy="swap")
    assert known(dimension)[one] == old[1]
    assert words.get([one, two]) == old[::-1]
    dimension.execute("select sqlkit.follow_keys('word', 'word_id', array['word'])")
    assert words.get([one, two]) == old[::-1]
    dimension.execute("alter table word rename to old; alter table other rename to word")
    dimension.execute("alter table word add unique (word); update word set word_id = - word_id")
    assert words.get([one, two]) == [-(id_ or 0) for id_ in old[::-1]]


def test_dimensions_of_one_name_are_two(
    dimension: psycopg.Connection, database: Database, cache: Cache
) -> None:
    """Which one is meant, the search_path says."""
    with database.preparing():
        dimension.execute(
            "create schema second; create table second.word (like word including all)"
        )
    with database.connect(options="-c search_path=second") as other:
        other.execute(
            "insert into word (word_id, word) overriding system value values (-1, 'both')"
        )
        (mine,), (theirs,) = cache().get(["both"]), cache(other).get(["both"])
    assert (mine, theirs) == (known(dimension)["both"], -1)


def test_what_a_text_means_depends_on_settings(
    connection: psycopg.Connection, server_of_keys: RedisServer
) -> None:
    """The same text is another moment in another time zone, and another day in another style."""
    connection.execute(
        "create table moment (id bigint generated always as identity primary key,"
        " at timestamptz, day date, unique (at, day))"
    )
    moments = KeyCache(
        connection, server_of_keys.client, "moment", id_column="id", key=["at", "day"]
    )
    for zone in ("UTC", "Asia/Jerusalem"):
        for style in ("ISO, DMY", "ISO, MDY"):
            connection.execute("select set_config('timezone', %s, false)", [zone])
            connection.execute("select set_config('datestyle', %s, false)", [style])
            (found,) = moments.get([("2026-01-02 10:00", "03/04/2026")])
            row = connection.execute(
                "select id from moment where at = '2026-01-02 10:00' and day = '03/04/2026'"
            ).fetchone()
            assert row == (found,)
    assert connection.execute("select count(*) from moment").fetchone() == (4,)


def test_a_key_that_redis_knows_is_no_question_to_postgresql(
    dimension: psycopg.Connection, database: Database, cache: Cache
) -> None:
    words = cache(follow_every=600.0)
    words.warm()
    query = "select state_change from pg_stat_activity where pid = %s"
    with database.connect() as other:
        before = other.execute(query, [dimension.info.backend_pid]).fetchone()
        assert all(words.get_one(word) for word in WORDS[:100])
        assert other.execute(query, [dimension.info.backend_pid]).fetchone() == before
        dimension.execute("select 1")
        assert other.execute(query, [dimension.info.backend_pid]).fetchone() != before


def test_nothing_of_a_transaction_that_may_be_rolled_back_is_remembered(
    dimension: psycopg.Connection, cache: Cache
) -> None:
    words = cache()
    with dimension.transaction(force_rollback=True):
        (gone,) = words.get(["in vain"])
    (made,) = words.get(["in vain"])
    assert made != gone
    assert known(dimension)["in vain"] == made


def test_keys_of_several_columns(
    connection: psycopg.Connection, server_of_keys: RedisServer
) -> None:
    connection.execute(
        "create table shelf (id bigint generated always as identity primary key,"
        ' shop integer, "the day" date, unique ("the day", shop))'
    )
    shelves = KeyCache(
        connection, server_of_keys.client, "shelf", id_column="id", key=["shop", "the day"]
    )
    first, second, none = shelves.get([(1, "2026-01-02"), (2, "2026-01-02"), (1, None)])
    assert none is None
    assert shelves.get([(2, "2026-01-02"), (1, "2026-01-02")]) == [second, first]
    assert shelves.hits == 2
    assert shelves.warm() == 2
    client = server_of_keys.client
    one = KeyCache(connection, client, "shelf", id_column="id", key="id", create=False)
    assert one.get([first]) == [first], "a text is one column"
    with pytest.raises(ValueError, match="2 values"):
        shelves.get(["2026-01-02"])
    with pytest.raises(SqlkitError) as raised:
        shelves.get([("one", "2026-01-02")])
    assert raised.value.code == "22P02"


def test_asynchronous(dimension: psycopg.Connection, dsn: str, server_of_keys: RedisServer) -> None:
    async def work() -> list[int | None]:
        async with (
            await psycopg.AsyncConnection.connect(dsn) as connection,
            AsyncRedis(port=server_of_keys.port) as client,
        ):
            words = AsyncKeyCache(
                connection, client, "public.word", id_column="word_id", key=["word"]
            )
            assert await words.warm() == 300
            return await words.get(WORDS)

    found = asyncio.run(work())
    assert found == [known(dimension)[word] for word in WORDS]


def side_by_side(database: Database, work: Callable[[psycopg.Connection, int], object]) -> None:
    """The same work of four sessions at once."""
    gate = threading.Barrier(4)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            with database.connect() as connection:
                gate.wait(30)
                work(connection, number)
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.every_version
def test_keys_are_made_once_by_loaders_side_by_side(
    dimension: psycopg.Connection, database: Database
) -> None:
    """Each has them in another order: nobody waits crosswise."""
    counts: list[tuple[object, ...]] = []

    def load(connection: psycopg.Connection, number: int) -> None:
        connection.execute(f"create table if not exists fact_{number} (word_id integer)".encode())
        connection.execute(
            "select sqlkit.create_stage(%s::regclass, array['word', 'word_id'], %s, array['word'])",
            [f"fact_{number}", f"stage_of_{number}"],
        )
        stage = f"sqlkit_stage.stage_of_{number}"
        order = WORDS[:] if number % 2 else WORDS[::-1]
        connection.execute(
            f"insert into {stage} (word) select unnest(%s::text[])".encode(), [order * 3]
        )
        row = connection.execute(
            "select * from sqlkit.resolve_keys("
            f"'{stage}', 'word_id', 'word', 'word_id', array['word'])".encode()
        ).fetchone()
        assert row is not None
        counts.append(row)

    side_by_side(database, load)
    assert sorted(known(dimension)) == sorted(WORDS)
    assert [row[:3] for row in counts] == [(1500, 1500, 0)] * 4
    assert sum(int(str(row[3])) for row in counts) == 200


def test_a_key_whose_maker_takes_it_back_is_made_by_who_waits(
    dimension: psycopg.Connection, database: Database
) -> None:
    """Both have the same keys; the first one's are rolled back, the second one's are there."""
    resolve = (
        "select * from sqlkit.resolve_keys('sqlkit_stage.of_{}', 'word_id', 'word', 'word_id',"
        " array['word'])"
    )
    dimension.execute("create table fact (word_id integer)")
    for name in ("first", "second"):
        dimension.execute(
            "select sqlkit.create_stage('fact', array['word', 'word_id'], %s, array['word'])",
            [f"of_{name}"],
        )
        dimension.execute(
            f"insert into sqlkit_stage.of_{name} (word) select unnest(%s::text[])".encode(), [WORDS]
        )
    with (
        database.connect() as first,
        database.connect() as second,
        ThreadPoolExecutor(1) as pool,
    ):
        with first.transaction(force_rollback=True):
            first.execute(resolve.format("first").encode())
            other = pool.submit(second.execute, resolve.format("second").encode())
            wait([other], timeout=0.5)
            assert not other.done()
        assert other.result(60).fetchone() == (500, 500, 0, 200)
    wrong = (
        "select from sqlkit_stage.of_second as s left join word as w using (word_id)"
        " where w.word is distinct from s.word"
    )
    assert dimension.execute(wrong.encode()).rowcount == 0
    assert sorted(known(dimension)) == sorted(WORDS)


def test_caches_side_by_side_agree(
    dimension: psycopg.Connection, database: Database, cache: Cache
) -> None:
    answers: list[list[int | None]] = []
    side_by_side(database, lambda connection, number: answers.append(cache(connection).get(WORDS)))
    assert len({tuple(answer) for answer in answers}) == 1
    assert answers[0] == [known(dimension)[word] for word in WORDS]
