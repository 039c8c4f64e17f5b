"""Deterministic input for the benchmark, written once and kept in a cache directory.

A row follows from its number and the seed alone, so every version of a file (changed, reordered,
shortened) agrees with the others row by row, and nothing has to be kept in memory.
"""

from __future__ import annotations

import functools
import gzip
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

STORES = 40
CURRENCIES = ("EUR", "USD", "GBP", "ILS")
PRICE_HEADER = "product_id,supplier_id,store_id,price,currency,availability,observed_at\n"
CHUNK_ROWS = 20_000
# Part of every file name: raise it whenever a generator below writes something else.
VERSION = 2


@dataclass(frozen=True)
class Prices:
    """Which price file is wanted.

    `order` is the order of the rows against the key (product, store): `store` writes store by
    store (the usual export, and the reason why the key is not the physical order), `key` writes
    in key order, `random` in neither. `changed` is the share of rows with another price and
    time than in the file with `changed=0`; `new` is the share of rows that only this file has.
    One row in `bad_every` has `bad` for a price: a text, or a number that a CHECK forbids.
    """

    rows: int = 2_000_000
    changed: float = 0.0
    new: float = 0.0
    order: str = "store"
    seed: int = 1
    bad_every: int | None = None
    bad: str = "n/a"

    @property
    def name(self) -> str:
        bad = f"-b{self.bad_every}" if self.bad_every else ""
        if self.bad != "n/a":
            bad += f"-{self.bad}"
        return (
            f"price-v{VERSION}-{self.rows}-{self.order}-c{self.changed:g}-n{self.new:g}"
            f"-s{self.seed}{bad}.csv.gz"
        )

    @property
    def count(self) -> int:
        """How many rows the file has: every store has as many, and the new ones follow."""
        stores = min(STORES, self.rows)
        whole = self.rows // stores * stores
        return whole + int(whole * self.new)


@dataclass(frozen=True)
class Events:
    """A file of JSON lines with this many records."""

    rows: int = 1_000_000


@dataclass(frozen=True)
class ParquetPrices:
    """A Parquet file of the rows of a price file."""

    prices: Prices


@dataclass(frozen=True)
class SmallFiles:
    """The rows of a price file in so many files."""

    prices: Prices
    number: int


@dataclass(frozen=True)
class BigPrices:
    """A price file of at least this many bytes decoded; its keys repeat."""

    decoded_bytes: int


def _mix(value: int) -> int:
    """Scatter a number over 64 bits (the finalizer of splitmix64)."""
    value = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)


def _price_line(product: int, store: int, spec: Prices) -> str:
    noise = _mix(spec.seed << 48 | product << 8 | store)
    cents = 99 + noise % 99_900
    second = (noise >> 20) % 86_400
    day = 1
    if ((noise >> 40) % 10_000) < spec.changed * 10_000:
        cents += 1 + (noise >> 54) % 50
        day = 2
    return (
        f"{product},{1 + product % 997},{store},{cents // 100}.{cents % 100:02d},"
        f"{CURRENCIES[product % 4]},{'true' if noise >> 60 else 'false'},"
        f"2025-03-{day:02d} {second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}+00\n"
    )


def price_lines(spec: Prices) -> Iterator[str]:
    """The lines of a price file, without its header."""
    stores = min(STORES, spec.rows)
    products = spec.rows // stores
    total = products * stores
    if spec.order == "store":
        for store in range(1, stores + 1):
            for product in range(1, products + 1):
                yield _price_line(product, store, spec)
    elif spec.order == "key":
        for product in range(1, products + 1):
            for store in range(1, stores + 1):
                yield _price_line(product, store, spec)
    else:
        # An affine walk visits every number once, far from its neighbours.
        step = next(
            s for s in range(int(total * 0.618) | 1, 2 * total, 2) if math.gcd(s, total) == 1
        )
        for i in range(total):
            place = i * step % total
            yield _price_line(1 + place // stores, 1 + place % stores, spec)
    for i in range(int(total * spec.new)):
        yield _price_line(products + 1 + i // stores, 1 + i % stores, spec)


WORDS = (
    "כיסא", "стол", "lampe", "chaise", "机", "tafel", "silla", "ランプ", "krzesło", "desk",
    "naïve", "façade", "smörgås", "λάμπα", "🪑", "кресло", "מנורה", "mesa", "sofa", "shelf",
)  # fmt: skip


def event_lines(rows: int, seed: int = 1) -> Iterator[str]:
    """JSON lines with a nested object, an array, unicode, escapes and numbers of every kind.

    Every other line escapes what is not ASCII, as many writers do; the others are UTF-8.
    Amounts have up to 18 digits, which a double cannot hold: numbers have to stay exact.
    """
    for i in range(1, rows + 1):
        noise = _mix(seed << 48 | i)
        first, second = WORDS[noise % 20], WORDS[(noise >> 8) % 20]
        record = {
            "id": i,
            "kind": ("view", "cart", "order", "return")[noise % 4],
            "title": f'{first} "{second}" \\ {noise % 1000}\n{i % 7}\t/',
            "amount": 0,
            "ratio": (noise >> 16) % 1_000_000 / 1_000_000,
            "active": None if noise % 16 == 0 else bool(noise >> 63),
            "at": (
                f"2025-03-{1 + noise % 28:02d}T{(noise >> 12) % 24:02d}:"
                f"{(noise >> 17) % 60:02d}:{(noise >> 23) % 60:02d}.{noise % 1000:03d}Z"
            ),
            "buyer": {
                "name": f"{second} {first}",
                "country": ("DE", "IL", "FR", "JP")[(noise >> 30) % 4],
                "address": {"city": second, "zip": f"{(noise >> 35) % 100_000:05d}"},
            },
            "tags": [first, second][: noise % 3],
        }
        line = json.dumps(record, ensure_ascii=i % 2 == 0)
        # Written as text, since a Python float would lose digits exactly as a reader may.
        exact = f"{(noise >> 10) % 10**14}.{noise % 10_000:04d}"
        yield line.replace('"amount": 0', f'"amount": {exact}', 1) + "\n"


def _write(path: Path, header: str, lines: Callable[[], Iterator[str]]) -> Path:
    """Write a gzip file as `gzip -6` would, whole or not at all; an existing one is kept."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with gzip.GzipFile(partial, "wb", compresslevel=6, mtime=0) as out:
        out.write(header.encode())
        buffer: list[str] = []
        for line in lines():
            buffer.append(line)
            if len(buffer) == CHUNK_ROWS:
                out.write("".join(buffer).encode())
                buffer.clear()
        out.write("".join(buffer).encode())
    partial.replace(path)
    return path


def parquet_file(cache: Path, spec: Prices) -> Path:
    """The Parquet file for `spec`, with the types of the table."""
    path = cache / spec.name.replace(".csv.gz", ".parquet")
    if not path.exists():
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet

        types = {
            "product_id": pa.int32(),
            "supplier_id": pa.int32(),
            "store_id": pa.int32(),
            "price": pa.decimal128(10, 2),
            "observed_at": pa.timestamp("us", "UTC"),
        }
        table = pyarrow.csv.read_csv(
            price_file(cache, spec),
            convert_options=pyarrow.csv.ConvertOptions(column_types=types),
        )
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        pyarrow.parquet.write_table(table, partial, row_group_size=100_000)
        partial.replace(path)
    return path


Input = Prices | Events | BigPrices | ParquetPrices | SmallFiles


def make(cache: Path, spec: Input) -> Path:
    """The file for `spec` in the cache directory, written where it is not there yet."""
    if isinstance(spec, Prices):
        return price_file(cache, spec)
    if isinstance(spec, Events):
        return event_file(cache, spec.rows)
    if isinstance(spec, ParquetPrices):
        return parquet_file(cache, spec.prices)
    if isinstance(spec, SmallFiles):
        return small_files(cache, spec)
    return big_price_file(cache, spec.decoded_bytes)


def price_file(cache: Path, spec: Prices) -> Path:
    """The gzip CSV file for `spec`, with a header."""
    return _write(cache / spec.name, PRICE_HEADER, lambda: _with_bad_rows(spec))


def small_files(cache: Path, spec: SmallFiles) -> Path:
    """What matches the files for `spec`, each with a header, in a folder of their own."""
    folder = cache / f"{spec.prices.name.removesuffix('.csv.gz')}-in-{spec.number}"
    lines = price_lines(spec.prices)
    rows = -(-spec.prices.count // spec.number)
    for number in range(spec.number):
        part = functools.partial(iter, list(islice(lines, rows)))
        _write(folder / f"{number:04}.csv.gz", PRICE_HEADER, part)
    return folder / "*.csv.gz"


def _with_bad_rows(spec: Prices) -> Iterator[str]:
    for number, line in enumerate(price_lines(spec)):
        if spec.bad_every and number % spec.bad_every == spec.bad_every // 2:
            fields = line.split(",")
            yield ",".join([*fields[:3], spec.bad, *fields[4:]])
        else:
            yield line


XML_ITEMS = 300_000


def xml_file(cache: Path) -> Path:
    """A gzip file of prices as a chain publishes them, in XML, with `XML_ITEMS` items."""

    def lines() -> Iterator[str]:
        for i in range(XML_ITEMS):
            noise = _mix(i)
            yield (
                f"<Item>\n  <PriceUpdateDate>2025-03-01 {noise % 24:02d}:00</PriceUpdateDate>\n"
                f"  <ItemCode>{7290000000000 + i}</ItemCode>\n  <ItemType>1</ItemType>\n"
                f"  <ItemName>{WORDS[noise % 20]} שוקולד{' &amp;' if i % 50 == 0 else ''}"
                "</ItemName>\n"
                f"  <ManufacturerName>{WORDS[noise % 7]}</ManufacturerName>\n"
                "  <ManufactureCountry>IL</ManufactureCountry>\n"
                f"  <ManufacturerItemDescription>מוצר {i % 999}</ManufacturerItemDescription>\n"
                "  <UnitQty>גרם</UnitQty>\n  <Quantity>100.00</Quantity>\n"
                "  <bIsWeighted>0</bIsWeighted>\n  <UnitOfMeasure>100 גרם</UnitOfMeasure>\n"
                f"  <QtyInPackage>0</QtyInPackage>\n  <ItemPrice>{noise % 9999 / 100}</ItemPrice>\n"
                f"  <UnitOfMeasurePrice>{noise % 9999 / 100}</UnitOfMeasurePrice>\n"
                "  <AllowDiscount>1</AllowDiscount>\n  <ItemStatus>1</ItemStatus>\n</Item>\n"
            )
        yield "</Items>\n</Root>\n"

    header = (
        '<?xml version="1.0" encoding="utf-8"?>\n<Root>\n<ChainId>7290</ChainId>\n'
        f'<StoreId>5</StoreId>\n<Items Count="{XML_ITEMS}">\n'
    )
    return _write(cache / f"xml-v{VERSION}-{XML_ITEMS}.xml.gz", header, lines)


def event_file(cache: Path, rows: int) -> Path:
    """The gzip file of JSON lines with `rows` records."""
    return _write(cache / f"event-v{VERSION}-{rows}.jsonl.gz", "", lambda: event_lines(rows))


def big_price_file(cache: Path, decoded_bytes: int) -> Path:
    """A gzip CSV file of at least `decoded_bytes`, quick to write and of one member.

    One block of rows repeats, since only the size matters here. It is compressed once: pieces
    of a deflate stream that end on a byte boundary can be joined.
    """
    path = cache / f"big-v{VERSION}-{decoded_bytes}.csv.gz"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    block = "".join(price_lines(Prices(rows=400_000))).encode()
    header = PRICE_HEADER.encode()
    times = -(-decoded_bytes // len(block))
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    head = zlib.compressobj(6, zlib.DEFLATED, -15)
    with partial.open("wb") as out:
        out.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")
        out.write(head.compress(header) + head.flush(zlib.Z_FULL_FLUSH))
        check = zlib.crc32(header)
        size = len(header)
        for _ in range(times):
            out.write(packed)
            check = zlib.crc32(block, check)
            size += len(block)
        end = zlib.compressobj(6, zlib.DEFLATED, -15)
        out.write(end.flush())
        out.write(check.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little"))
    partial.replace(path)
    return path
