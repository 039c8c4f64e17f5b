"""XML: records and their paths, what is refused, and the feeds of price transparency."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree  # type: ignore[import-untyped]

import sqlkit
from sqlkit.errors import SourceError, UsageError
from sqlkit.sources import xml
from sqlkit.sources.base import WantedColumn
from sqlkit.sources.copied import rows_of
from sqlkit.sources.stored import StoredFile
from sqlkit.sources.text_rows import ROWS
from sqlkit.sources.xml import XmlSource
from tests.conftest import Database, RunSqlkit


def read(
    path: Path, *names: str, json: tuple[str, ...] = (), piece_bytes: int = 1 << 20, **how: Any
) -> list[list[str | None]]:
    reader = XmlSource(StoredFile(str(path)), **({"record": "Item"} | how)).open()
    wanted = [WantedColumn(name, is_json=name in json) for name in names or reader.columns]
    try:
        return [
            row for piece in reader.pieces(wanted, piece_bytes) for row in rows_of(ROWS, piece.data)
        ]
    finally:
        reader.close()


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


TEXTS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]) | st.just("\n"))
FIELDS = st.dictionaries(st.sampled_from("abc"), TEXTS, min_size=1)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(FIELDS, min_size=1, max_size=8),
    st.sampled_from(["", "\n  ", "<!-- <Item><a>1</a></Item> -->", "<other><Items/></other>"]),
    st.integers(1, 40),
)
def test_what_is_read_is_what_lxml_reads(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]], between: str, chunk: int
) -> None:
    path = tmp_path_factory.mktemp("xml") / "a.xml"
    items = [
        "<Item>" + "".join(f"<{k}>{escape(v)}</{k}>" for k, v in row.items()) + "</Item>"
        for row in rows
    ]
    write(path, f"<Root>{between}{between.join(items)}{between}</Root>")
    expected = [
        [item.findtext(name) or None for name in "abc"]
        for item in etree.parse(str(path)).getroot().findall("Item")
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xml, "CHUNK", chunk)
        assert read(path, "a", "b", "c") == expected


SALE = """<?xml version="1.0"?>
<s:Shop xmlns:s="urn:shop" xmlns="urn:x" version="7">
  <StoreId>12</StoreId><Area code="N"><Name>North</Name></Area>
  <Items Count="2">
    <Item id="1"><Code>a&amp;b</Code><Club vip="1"><Id>5</Id></Club><Empty/>
      <Tag>x</Tag><Tag>y</Tag></Item>
    <Item id="2"><Code><![CDATA[<raw>]]></Code><Club><Id>6</Id><Id>7</Id></Club><Tag>z</Tag></Item>
  </Items>
</s:Shop>"""


def test_paths_attributes_ancestors_and_lists(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xml", SALE)
    found = read(
        path, "@id", "Code", "Club/Id", "Club/@vip", "../StoreId", "../@Count", "../Name", "Empty",
        "Tag", "Nothing/at/all", json=("Tag",),
    )  # fmt: skip
    assert found == [
        ["1", "a&b", "5", "1", "12", "2", "North", None, '["x","y"]', None],
        ["2", "<raw>", '["6","7"]', None, "12", "2", "North", None, '"z"', None],
    ]


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "windows-1255", "iso-8859-8"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_encoding_is_the_one_declared(tmp_path: Path, encoding: str) -> None:
    declared = encoding.removesuffix("-sig")
    text = f'<?xml version="1.0" encoding="{declared}"?><R><Item><a>שלום</a></Item></R>'
    path = write(tmp_path / "a.xml.gz", text, encoding)
    assert read(path) == [["שלום"]]


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {y} "{f"&{x};" * 10}">' for x, y in zip("abcdefg", "bcdefgh", strict=True))
    + "]><r><Item><v>&h;</v></Item></r>"
)


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (BOMB, "SK119", "a declaration of an entity"),
        (
            '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r><Item><v>&x;</v></Item></r>',
            "SK119", "a declaration of an entity",
        ),
        ("<r><Item><v>&nbsp;</v></Item></r>", "SK119", "byte 12: undefined entity"),
        ("<r><Item>" + "<d>" * 300, "SK119", "nested more than 256 deep"),
        ("<r><Item><v>1</v></Item><Item><v>2</w></Item></r>", "SK119", "byte 36: mismatched tag"),
        ("<r><Item><v>1</v></Item><Item><v>2<", "SK105", "it ends at byte 35 within <v>"),
        ("<r><Item><v>1</v></Item>", "SK105", "it ends at byte 24 within <r>"),
        ("<r><Item><v>1</v></Item></r><r>", "SK119", "junk after document element"),
        ("<r><item/></r>", "SK108", "has no element Item"),
        ("", "SK105", "it ends at byte 0"),
    ],
)  # fmt: skip
def test_what_is_no_xml_or_dangerous_is_refused(
    tmp_path: Path, text: str, code: str, says: str
) -> None:
    with pytest.raises(SourceError, match=says) as raised:
        read(write(tmp_path / "a.xml", text))
    assert raised.value.code == code


def test_endless_tags_and_records_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xml, "MAX_RECORD", 1 << 20)
    for text in (
        "<r><Item><a>1</a></Item><Item><a>" + "x" * (3 << 20),
        "<r><Item a='" + "x" * (3 << 20),
    ):
        with pytest.raises(SourceError, match="too long") as raised:
            read(write(tmp_path / "a.xml", text))
        assert raised.value.code == "SK113"


@pytest.fixture
def client(database: Database) -> Iterator[sqlkit.Client]:
    with sqlkit.connect(database.dsn) as made:
        yield made


def items(number: int, padding: str = "") -> str:
    return "".join(f"<Item><id>{i}</id><name>n{i}{padding}</name></Item>" for i in range(number))


class Cut(Exception):  # noqa: N818
    pass


def test_loads_are_resumed_and_bad_records_kept(
    client: sqlkit.Client, connection: psycopg.Connection, tmp_path: Path
) -> None:
    connection.execute("create table public.item (id integer primary key, name text)")
    connection.execute("insert into item values (-1)")  # not the first load, which is one batch
    text = (
        items(9000, "x" * 100)
        .replace("<id>6000</id>", "<id>x</id>")
        .replace("<id>8000</id>", "<id></id>")
    )
    path = write(tmp_path / "a.xml.gz", f"<Root>{text}</Root>")

    def cut(progress: sqlkit.LoadProgress) -> None:
        if progress.phase == "merge":
            raise Cut

    how: dict[str, Any] = {"into": "public.item", "record": "Item", "reject_limit": 2}
    with pytest.raises(Cut):
        client.load(path, **how, batch_bytes=20_000, progress=cut)
    partly = connection.execute("select count(*) from item").fetchone()
    assert partly is not None
    assert 1 < partly[0] < 8998
    result = client.load(path, **how)
    assert result.rows.read == 9001 - partly[0]
    assert connection.execute("select count(*) from item").fetchone() == (8999,)
    rejects = client.rejects(result.run_id)
    assert [(reject["record"], reject["raw"]) for reject in rejects] == [
        (6001, '{"id":"x","name":"n6000' + "x" * 100 + '"}'),
        (8001, '{"id":null,"name":"n8000' + "x" * 100 + '"}'),
    ]


@pytest.mark.parametrize("comment", ["", "<!-- from here on, records are read one by one\n-->"])
def test_a_bad_record_has_its_lines(
    comment: str,
    client: sqlkit.Client,
    connection: psycopg.Connection,
    tmp_path: Path,
) -> None:
    """Of records that are cut out by their shape, and of those that expat reads."""
    connection.execute("create table item (id integer primary key, name text)")
    items = [
        f"<Item>\n <id>{'x' if n in (3, 700, 4999) else n}</id>\n\n <name>n{n}</name></Item>"
        for n in range(5000)
    ]
    items[699] = items[699].replace("<name>", "<name a='1'>")  # not plain
    items[1000] += comment
    path = tmp_path / "items.xml"
    path.write_text("<Root>\n" + "\n<A>1</A>\n\n".join(items) + "\n</Root>")
    result = client.load(path, into="public.item", record="Item", reject_limit=3, leave_out=["*"])
    assert (result.rows.inserted, result.rows.rejected) == (4997, 3)
    rejects = client.rejects(result.run_id)
    assert [found["record"] for found in rejects] == [4, 701, 5000]
    lines = path.read_text().split("\n")
    for found in rejects:
        stood = "\n".join(lines[found["first_line"] - 1 : found["last_line"]])
        assert stood == items[found["record"] - 1]


def test_the_command_line_takes_records_and_paths(
    database: Database, connection: psycopg.Connection, sqlkit: RunSqlkit, tmp_path: Path
) -> None:
    connection.execute(
        "create table public.sale (id int primary key, code text, store int, tags jsonb)"
    )
    path = write(tmp_path / "sale.xml", SALE)
    arguments = ["load", path, "--into", "public.sale", "--dsn", database.dsn]
    assert "--record" in sqlkit(*arguments).stderr
    done = sqlkit(
        *arguments, "--record", "Item", "--map", "@id=id", "--map", "Code=code",
        "--map", "../StoreId=store", "--map", "Tag=tags", "--leave-out", "*",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert connection.execute("table sale").fetchall() == [
        (1, "a&b", 12, ["x", "y"]),
        (2, "<raw>", 12, "z"),
    ]


PRICES = {
    "regulation": (
        '<?xml version="1.0" encoding="utf-8"?><root><ChainId>7290</ChainId><SubChainId>001'
        '</SubChainId><StoreId>5</StoreId><Items Count="1"><Item><PriceUpdateDate>2024-01-02 05:06'
        "</PriceUpdateDate><ItemCode>729</ItemCode><ItemName>חלב</ItemName><bIsWeighted>0"
        "</bIsWeighted><ItemPrice>5.90</ItemPrice><Unknown>1</Unknown></Item></Items></root>",
        "utf-8",
    ),
    "products": (
        '<?xml version="1.0" encoding="UTF-16"?><Prices><ChainID>7290</ChainID><SubChainID>001'
        "</SubChainID><StoreID>5</StoreID><Products><Product><PriceUpdateDate>2024-01-02 05:06"
        "</PriceUpdateDate><ItemCode>729</ItemCode><ItemNm>חלב</ItemNm><blsWeighted>0</blsWeighted>"
        "<ItemPrice>5.90</ItemPrice></Product></Products></Prices>",
        "utf-16",
    ),
    "old": (
        '<?xml version="1.0" encoding="windows-1255"?><Root><CHAINID>7290</CHAINID><SUBCHAINID>001'
        "</SUBCHAINID><STOREID>5</STOREID><ITEMS><ITEM><PRICEUPDATEDATE>2024-01-02 05:06"
        "</PRICEUPDATEDATE><ITEMCODE>729</ITEMCODE><ITEMNAME><![CDATA[חלב]]></ITEMNAME>"
        "<BISWEIGHTED>0</BISWEIGHTED><ITEMPRICE>5.90</ITEMPRICE></ITEM></ITEMS></Root>",
        "windows-1255",
    ),
}


@pytest.mark.parametrize("spelling", PRICES)
def test_prices_in_each_spelling(
    client: sqlkit.Client, connection: psycopg.Connection, tmp_path: Path, spelling: str
) -> None:
    connection.execute(
        "create table public.price (chain_id text, sub_chain_id text, store_id int, item_code text,"
        " item_name text, is_weighted bool, price numeric, updated_at timestamp,"
        " primary key (chain_id, store_id, item_code))"
    )
    path = write(tmp_path / "PriceFull7290-005.gz", *PRICES[spelling])
    client.load(path, into="public.price", feed="prices", leave_out=["*"])
    (row,) = connection.execute("select p::text from price as p").fetchall()
    assert row == ('(7290,001,5,729,חלב,f,5.90,"2024-01-02 05:06:00")',)


PROMOS = {
    "regulation": "<Root><ChainId>7290</ChainId><StoreId>5</StoreId><Promotions Count='1'>"
    "<Promotion><PromotionId>9</PromotionId><PromotionDescription>1+1</PromotionDescription><PromotionItems>"
    "<Item><ItemCode>1</ItemCode></Item><Item><ItemCode>2</ItemCode></Item></PromotionItems>"
    "</Promotion></Promotions></Root>",
    "sales": "<Prices><ChainID>7290</ChainID><StoreID>5</StoreID><Sales><Sale><PromotionID>9"
    "</PromotionID><PromotionDescription>1+1</PromotionDescription><PromotionItems><Item>"
    "<ItemCode>1</ItemCode></Item><Item><ItemCode>2</ItemCode></Item></PromotionItems></Sale>"
    "</Sales></Prices>",
}


@pytest.mark.parametrize("spelling", PROMOS)
def test_promotions_keep_their_items(tmp_path: Path, spelling: str) -> None:
    path = write(tmp_path / "PromoFull.xml", PROMOS[spelling])
    names = ("chain_id", "store_id", "promotion_id", "description", "items")
    assert read(path, *names, json=("items",), record=None, feed="promos") == [
        ["7290", "5", "9", "1+1", '{"item":[{"itemcode":"1"},{"itemcode":"2"}]}']
    ]


STORES = {
    "nested": "<Root><ChainId>7290</ChainId><ChainName>ר</ChainName><SubChains><SubChain>"
    "<SubChainId>1</SubChainId><Stores><Store><StoreId>5</StoreId><StoreName>א</StoreName></Store></Stores>"
    "</SubChain><SubChain><SubChainId>2</SubChainId><Stores><Store><StoreId>6</StoreId><StoreName>ב"
    "</StoreName></Store></Stores></SubChain></SubChains></Root>",
    "abap": '<asx:abap xmlns:asx="http://www.sap.com/abapxml" version="1.0"><asx:values><STORES>'
    "<STORE><CHAINID>7290</CHAINID><SUBCHAINID>1</SUBCHAINID><STOREID>5</STOREID><CHAINNAME>ר"
    "</CHAINNAME><STORENAME>א</STORENAME></STORE><STORE><CHAINID>7290</CHAINID><SUBCHAINID>2"
    "</SUBCHAINID><STOREID>6</STOREID><CHAINNAME>ר</CHAINNAME><STORENAME>ב</STORENAME></STORE>"
    "</STORES></asx:values></asx:abap>",
    "branches": "<Store><Branches><Branch><ChainID>7290</ChainID><SubChainID>1</SubChainID>"
    "<StoreID>5</StoreID><ChainName>ר</ChainName><StoreName>א</StoreName></Branch><Branch><ChainID>7290"
    "</ChainID><SubChainID>2</SubChainID><StoreID>6</StoreID><ChainName>ר</ChainName><StoreName>ב"
    "</StoreName></Branch></Branches></Store>",
}


@pytest.mark.parametrize("spelling", STORES)
def test_stores_in_each_spelling(tmp_path: Path, spelling: str) -> None:
    path = write(tmp_path / "Stores.xml", STORES[spelling])
    names = ("chain_id", "chain_name", "sub_chain_id", "store_id", "store_name")
    assert read(path, *names, record=None, feed="stores") == [
        ["7290", "ר", "1", "5", "א"],
        ["7290", "ר", "2", "6", "ב"],
    ]


def test_a_feed_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no feed 'x'"):
        read(write(tmp_path / "a.xml", "<r/>"), record=None, feed="x")


@pytest.mark.parametrize("head", ["", "<!-- all through expat -->"], ids=["plain", "expat"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, head: str) -> None:
    def peak(number: int) -> int:
        path = write(tmp_path / f"{number}.xml", f"<Root>{head}{items(number, 'x' * 500)}</Root>")
        reader = XmlSource(StoredFile(str(path)), record="Item").open()
        tracemalloc.start()
        try:
            for _ in reader.pieces([WantedColumn("id"), WantedColumn("name")], 1 << 18):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            reader.close()

    assert peak(20_000) < 1.2 * peak(5_000) + 500_000
