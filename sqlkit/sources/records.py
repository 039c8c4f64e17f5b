"""Where records of delimited text begin and end, found at C speed.

The grammar is that of COPY in CSV mode, with one difference. COPY takes every quote character as
an opening or closing one wherever it stands and drops it, so that ``5" pipe`` arrives as
``5 pipe`` or swallows the next line. Here a quote opens a field only as its first character and
is data elsewhere, as spreadsheets and Python's csv read it. Text in which both readings agree,
which is nearly all there is, is left alone; the fields where they differ are quoted properly.

A quote that is opened on one line and closed on another, but not where a field ends there, was
never closed, or not meant to open a field: what it has swallowed are records of their own.

The fast way looks at the parity of quote characters and never at a single record; whether it may
be trusted is itself checked at C speed. Only where it may not, or where the escape character is
not the quote, a regular expression walks over the text.

All offsets are in bytes. Every encoding that is used here keeps ASCII characters as single bytes
that occur nowhere else (UTF-8, and whatever PostgreSQL allows in a server).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

NO_QUOTE = b"\x01"  # what COPY is told where a dialect has no quotes: it wants to be told one

_TOO_MANY_STEPS = 4096  # from where on a regular expression is faster
_DENSE = 48  # bytes per quote: where there are more quotes, likewise


class BrokenQuotes(Exception):  # noqa: N818  (made a SourceError where the file is known)
    """Text that is no record whatever follows; `offset` is where that record begins."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


class Grammar:
    """The records of one dialect.

    `delimiter` is one ASCII byte, `quote` one or none, `escape` one (the quote itself where it is
    doubled). `eol` is the byte that ends a line: b"\\n" (with or without b"\\r" before it) or
    b"\\r". The other of the two is data where it stands alone.
    """

    def __init__(
        self, *, delimiter: bytes, quote: bytes, escape: bytes, eol: bytes, null: bytes = b""
    ) -> None:
        self.delimiter = delimiter
        self.quote = quote
        self.escape = escape if quote else b""
        self.eol = eol
        self.null = null
        self._doubled = quote == escape
        self._mark = quote or NO_QUOTE  # what COPY takes for a quote
        self._separators = frozenset(delimiter + eol)
        self._other = b"\r" if eol == b"\n" else b"\n"

        d, q, e = (re.escape(x) for x in (delimiter, quote, self.escape))
        if eol == b"\n":
            term, alone, follow = rb"\r?\n", rb"\n", rb"(?=[%b\n]|\r\n|\Z)" % d
            plain, junk = rb"[^%b\r\n]" % d, rb"[^%b%b\r\n]" % (d, q)
            unquoted = rb"%b*+(?:\r(?!\n)%b*+)*+" % (plain, plain)
            after = rb"%b*+(?:\r(?!\n)%b*+)*+" % (junk, junk)
        else:
            term, alone, follow = rb"\r\n?+", rb"\r(?!\n)", rb"(?=[%b\r]|\Z)" % d
            unquoted, after = rb"[^%b\r]*+" % d, rb"[^%b%b\r]*+" % (d, q)
        clean = rb"[^%b%b\r\n]++%b" % (d, re.escape(self._mark), follow)
        if not quote:
            field = unquoted
            quoted = b""
        else:
            if self._doubled:
                inner = rb"[^%b]*+(?:%b%b[^%b]*+)*+" % (q, q, q, q)
                of_line = rb"[^%b%b]*+(?:%b%b[^%b%b]*+)*+" % (q, eol, q, q, q, eol)
            else:
                inner = rb"[^%b%b]*+(?:%b.[^%b%b]*+)*+" % (q, e, e, q, e)
                of_line = rb"[^%b%b%b]*+(?:%b[^%b][^%b%b%b]*+)*+" % (q, e, eol, e, eol, q, e, eol)
            quoted = rb"%b%b%b" % (q, inner, q)
            in_line = rb"%b%b%b%b" % (q, of_line, q, after)
            field = rb"(?:%b%b|%b|(?!%b)%b)" % (quoted, follow, in_line, q, unquoted)
            clean = rb"%b%b|%b" % (quoted, follow, clean)
        record = rb"%b(?:%b%b)*+" % (field, d, field)

        def compiled(pattern: bytes) -> re.Pattern[bytes]:
            return re.compile(pattern, re.DOTALL)

        self._records = compiled(rb"(?:%b%b)*+" % (record, term))
        self._record = compiled(record)
        self._term = compiled(term)
        self._clean = compiled(rb"(?:%b|%b|%b)*+" % (clean, d, term))
        self._clean_eol = compiled(rb"(?:%b|%b|%b)*+" % (clean, d, alone))
        self._clean_crlf = compiled(rb"(?:%b|%b|\r\n)*+" % (clean, d))
        self._unquoted = compiled(unquoted)
        self._quoted = compiled(quoted) if quote else None
        self._after = compiled(after)
        self._escaped = compiled(rb"%b([%b%b])" % (e, q, e)) if quote else None
        self._end_marker = compiled(rb"(?<![^%b])\\\.(?=[\r\n]|\Z)" % eol)

    # --- boundaries

    def boundary(self, text: bytes) -> int:
        """The end of the last whole record in `text`, which begins with a record; 0 if none.

        Trusts that every quote opens or closes a field: see `prepare`.
        """
        if self.quote and self.quote in text:
            if not self._doubled:
                return self.careful_boundary(text)
            return self._boundary_by_parity(text)
        return text.rfind(self.eol) + 1

    def _boundary_by_parity(self, text: bytes) -> int:
        quote, eol = self.quote, self.eol
        inside = text.count(quote) & 1
        end = len(text)
        for _ in range(_TOO_MANY_STEPS):
            before = text.rfind(quote, 0, end)
            if not inside and (found := text.rfind(eol, before + 1, end)) >= 0:
                return found + 1
            if before < 0:
                return 0
            inside ^= 1
            end = before
        return self.careful_boundary(text)

    def careful_boundary(self, text: bytes) -> int:
        """The same, by walking over the text; exact for any text."""
        found = self._records.match(text)
        assert found is not None
        return found.end()

    def record_end(self, text: bytes, start: int = 0) -> int | None:
        """The end of the record at `start` with its line end; None if it does not end in `text`.

        Raises BrokenQuotes where no text that follows could make it a record.
        """
        found = self._record.match(text, start)
        if found is not None and (ended := self._term.match(text, found.end())):
            return ended.end()
        self.explain(text, start)
        return None

    def explain(self, text: bytes, start: int, *, final: bool = False, within: str = "") -> None:
        """Raise BrokenQuotes where the record at `start` has quotes that make no sense.

        With `final`, a quote that is still open at the end of `text` makes none either; `within`
        says how far that is, where it is not the end of the file.
        """
        if self._quoted is None:
            return
        position = start
        while True:
            if text.startswith(self.quote, position):
                quoted = self._quoted.match(text, position)
                if quoted is None:
                    if final:
                        closed = f"not closed{within}" if within else "never closed"
                        raise BrokenQuotes(start, f"a quote is opened and {closed}")
                    return
                position = self._end(self._after, text, quoted.end())
                is_open = position == len(text) and not final  # what follows may end the field
                if position > quoted.end() and not is_open and self.eol in quoted.group():
                    raise BrokenQuotes(
                        start, "a quote is opened, and closed within a field of another line"
                    )
                # right at the end, the second of two quotes may be yet to come
                if text.startswith(self.quote, position):
                    raise BrokenQuotes(
                        start, "a quoted field goes on with another quote after its end"
                    )
            else:
                position = self._end(self._unquoted, text, position)
            if not text.startswith(self.delimiter, position):
                return
            position += 1

    @staticmethod
    def _end(pattern: re.Pattern[bytes], text: bytes, position: int) -> int:
        found = pattern.match(text, position)
        return position if found is None else found.end()

    def line_end(self, text: bytes, start: int) -> int | None:
        """Where the line end that stands at `start` ends; None if there is none."""
        found = self._term.match(text, start)
        return None if found is None else found.end()

    def first_line_end(self, text: bytes) -> bytes:
        """How the first record of `text` ends; empty if it does not."""
        found = self._record.match(text)
        ended = None if found is None else self._term.match(text, found.end())
        return b"" if ended is None else ended.group()

    # --- what COPY is given

    def prepare(self, text: bytes, cut: int) -> tuple[bytes, int]:
        """Make `text[:cut]` what COPY reads as it is meant; return it and how much it covers.

        `cut` comes from `boundary`. Where that was misled by quotes, it is found again carefully,
        and may be 0. In nearly every case the result is the very bytes given.
        """
        run = text if cut == len(text) else text[:cut]
        if not self._trusted(run):
            cut = self.careful_boundary(text)
            run = self._requoted(text[:cut])
        if self._other in run:
            run = self._with_one_line_end(run)
        if b"\\" in run and b"\\." in run:
            run = self._without_end_marker(run)
        return run, cut

    def prepare_last(self, text: bytes) -> bytes:
        """The same for the last records of a source, the last of which may lack its line end.

        Raises BrokenQuotes where a quote is not closed.
        """
        if text.endswith(self.eol):
            run, cut = self.prepare(text, len(text))
            if cut == len(text):
                return run
        ended = b"\r\n" if self.eol == b"\n" and b"\r\n" in text else self.eol
        run, cut = self.prepare(text + ended, len(text) + len(ended))
        if cut < len(text):
            self.explain(text, cut, final=True)
            raise BrokenQuotes(cut, "the quotes make no sense")
        return run.removesuffix(self.eol).removesuffix(ended[:-1])

    def _trusted(self, run: bytes) -> bool:
        """Whether every quote in `run` opens or closes a field, so that parity tells all."""
        if self._mark not in run:
            return True
        if not self.quote:
            return False
        if self._doubled:
            quotes = run.count(self.quote)
            if quotes < len(run) // _DENSE:
                return self._trusted_by_pieces(run)
            if self._all_between_fields(run, quotes):
                return True
        return self._end(self._clean, run, 0) == len(run)

    def _all_between_fields(self, run: bytes, quotes: int) -> bool:
        """Whether each of the quotes stands between two quoted fields, but the first and last.

        So it is where a program quotes every field and none has a quote inside. Enough, but not
        necessary, for them to be trusted.
        """
        q = self.quote
        ends = b"\r\n" if run.endswith(b"\r\n") else self.eol
        if not (run.startswith(q) and run.endswith(q + ends)):
            return False
        # One pattern, so that no quote is counted for two pairs; the first and last for none.
        separated = q + self.delimiter + q
        run = run.replace(q + ends + q, separated)
        between = run.count(separated, 1, len(run) - 1 - len(ends))
        return quotes == 2 * between + 2

    def _trusted_by_pieces(self, run: bytes) -> bool:
        pieces = run.split(self.quote)
        if len(pieces) % 2 == 0:  # the last quote is still open
            return False
        # Of every second piece, which stands outside quotes, an empty one is a doubled quote;
        # any other lies between two fields, or before the first, or after the last.
        first, *between, last = pieces[::2]
        between = [piece for piece in between if piece]
        befores = {piece[-1] for piece in between}
        afters = {piece[0] for piece in between}
        if first:
            befores.add(first[-1])
        if last:
            afters.add(last[0])
        if not befores <= self._separators:
            return False
        odd = afters - self._separators
        if odd == {13} and self.eol == b"\n":
            between.append(last)
            return all(p[1:2] == b"\n" for p in between if p.startswith(b"\r"))
        return not odd

    def _requoted(self, run: bytes, *, one_line_end: bool = False) -> bytes:
        """Whole records with every field quoted that COPY would take for something else."""
        clean = self._clean_eol if one_line_end else self._clean
        parts: list[bytes] = []
        position = 0
        while True:
            end = self._end(clean, run, position)
            parts.append(run[position:end])
            if end == len(run):
                return b"".join(parts)
            if ended := self._term.match(run, end):
                parts.append(self.eol)
                position = ended.end()
                continue
            head = b""
            after = end
            if self._quoted is not None and (quoted := self._quoted.match(run, end)):
                head = quoted.group()[1:-1]
                after = quoted.end()
            position = self._end(self._unquoted, run, after)
            parts.append(self._quote(head, run[after:position]))

    def _quote(self, escaped: bytes, data: bytes) -> bytes:
        mark = self._mark
        escape = self.escape or mark
        if escape != mark:
            data = data.replace(escape, escape + escape)
        return mark + escaped + data.replace(mark, escape + mark) + mark

    def _with_one_line_end(self, run: bytes) -> bytes:
        """Records that all end alike, since COPY goes by the first of them."""
        r, n, rn = run.count(b"\r"), run.count(b"\n"), run.count(b"\r\n")
        if self.eol == b"\n" and r == n == rn:
            return run
        if self.quote and not self._doubled:
            if self.eol == b"\n" and self._end(self._clean_crlf, run, 0) == len(run):
                return run
            return self._requoted(run, one_line_end=True)
        pieces = run.split(self._mark)
        outside = self._mark.join(pieces[::2])
        r, n, rn = outside.count(b"\r"), outside.count(b"\n"), outside.count(b"\r\n")
        others = r if self.eol == b"\n" else n
        if others == 0 or (self.eol == b"\n" and r == n == rn):
            return run  # the others stand in quotes
        if others != rn:
            return self._requoted(run, one_line_end=True)
        pieces[::2] = [piece.replace(b"\r\n", self.eol) for piece in pieces[::2]]
        return self._mark.join(pieces)

    def _without_end_marker(self, run: bytes) -> bytes:
        r"""Records of nothing but \. in quotes: before version 18, COPY ends at such a line."""
        parts: list[bytes] = []
        position = 0
        for found in self._end_marker.finditer(run):
            if self._begins_record(run, found.start()):
                parts += (run[position : found.start()], self._mark, rb"\.", self._mark)
                position = found.end()
        parts.append(run[position:])
        return b"".join(parts)

    def _begins_record(self, run: bytes, position: int) -> bool:
        if self._mark not in run:
            return True
        if self._doubled or not self.quote:
            return run.count(self._mark, 0, position) % 2 == 0
        return self.careful_boundary(run[:position]) == position

    # --- single records

    def records(self, text: bytes) -> Iterator[bytes]:
        """The records of `text`, with their line ends; the last may lack its own.

        Raises BrokenQuotes.
        """
        start = 0
        while start < len(text):
            end = self.record_end(text, start)
            if end is None:
                self.explain(text, start, final=True)
                end = len(text)
            yield text[start:end]
            start = end

    def fields(self, record: bytes) -> list[bytes | None]:
        """The values of one record, None where COPY reads null."""
        values: list[bytes | None] = []
        position = 0
        while True:
            head: bytes | None = None
            after = position
            if self._quoted is not None and (quoted := self._quoted.match(record, position)):
                head = quoted.group()[1:-1]
                if self._escaped is not None:
                    head = self._escaped.sub(rb"\1", head)
                after = quoted.end()
            position = self._end(self._unquoted, record, after)
            rest = record[after:position]
            if head is None:
                values.append(None if rest == self.null else rest)
            else:
                values.append(head + rest)
            if not record.startswith(self.delimiter, position):
                return values
            position += 1
