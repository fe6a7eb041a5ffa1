"""Takes the two files that we know from the bytes of a multipart/form-data body: all in memory, all as it arrives."""

from io import BytesIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from service.errors import BadMultipart

KNOWN = (b"image", b"reference")
OF_THE_ADDRESS = (b"threshold", b"probability", b"frame", b"all_components")
"""Query parameters. A form that has one as a part is refused, since the answer would take no account of it."""
MAX_PARTS = 8
"""A form needs two; a few more are forgiven."""
MAX_PART_HEADERS = 8
MAX_PART_HEADER_BYTES = 4096
MAX_CONTENT_TYPE = 1024
"""In characters; a boundary has up to 70. Parsing tens of thousands would keep the event loop busy."""

PIECE_BYTES = 16 * 1024
"""Bytes given to the parser at once. It finds a boundary quickly, but what follows a boundary it reads byte by byte."""
MOST_LOOKALIKES = 16
"""The most lookalikes of a boundary in one piece: a form with more is made of them, and keeps the event loop busy."""

AS_THEY_ARE = frozenset({b"", b"7bit", b"8bit", b"binary"})
"""What a part's Content-Transfer-Encoding may say; other encodings are not read (RFC 7578, § 4.7)."""

MALFORMED = "the form is not well-formed; build it with a library, or send the image alone"


class Preamble:
    """What comes before the first `delimiter`; it is ignored (RFC 2046, § 5.1.1), and few callers send one."""

    def __init__(self, delimiter: bytes) -> None:
        self._ends = {delimiter, delimiter + b"--"}
        self._line, self._skipped = bytearray(), 0

    def skip(self, chunk: bytes) -> bytes | None:
        """Return the form from its first delimiter on, without blanks behind that; None until it has come.

        Raises:
            BadMultipart: it has not come within PIECE_BYTES.
        """
        start, looked_at = 0, max(len(self._line) - 1, 0)
        self._line += chunk
        while (end := self._line.find(b"\r\n", looked_at)) >= 0 and self._skipped + start <= PIECE_BYTES:
            line = bytes(self._line[start:end].rstrip(b" \t"))
            if line in self._ends:
                return line + self._line[end:]
            start = looked_at = end + 2
        del self._line[:start]
        self._skipped += start
        if self._skipped + len(self._line) > PIECE_BYTES:
            raise BadMultipart(MALFORMED)
        return None


class FormReader:
    """Takes a form chunk by chunk and keeps the content of its files `image` and `reference`; all else is dropped.

    Raises:
        BadMultipart: at any call: the form is broken; has more than MAX_PARTS parts, or a part with more or longer
            headers than the limits above; sends one of the two twice, encoded, or not as a file; or sends a query
            parameter.
    """

    def __init__(self, content_type: str) -> None:
        boundary = _boundary(content_type)
        self._delimiter = b"\r\n--" + boundary
        self._preamble: Preamble | None = Preamble(b"--" + boundary)
        self._files: dict[bytes, BytesIO] = {}
        self._parts = 0
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = self._encoding = b""
        self._is_reference_unnamed = False
        self._file: BytesIO | None = None
        self._has_ended = False
        self._padding = 0
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_content,
                    "on_end": self._end,
                },
                max_header_count=MAX_PART_HEADERS,
                max_header_size=MAX_PART_HEADER_BYTES,
            )
        except FormParserError as error:
            raise BadMultipart("the form's boundary is too long") from error

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        if self._preamble is not None:
            if (begun := self._preamble.skip(chunk)) is None:
                return
            chunk, self._preamble = begun, None
        for start in range(0, len(chunk), PIECE_BYTES):
            self._feed_piece(chunk[start : start + PIECE_BYTES])

    def _feed_piece(self, piece: bytes) -> None:
        was_padding = self._parser.state == MultipartState.BOUNDARY_PADDING
        if piece.count(self._delimiter) > MOST_LOOKALIKES:
            raise BadMultipart("the form is full of what looks like its boundary")
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise BadMultipart(MALFORMED) from error
        is_padding = self._parser.state == MultipartState.BOUNDARY_PADDING
        self._padding = self._padding + len(piece) if was_padding and is_padding else 0
        if self._padding > PIECE_BYTES:
            raise BadMultipart("a boundary of the form is followed by spaces without end")

    def finish(self) -> tuple[bytes, bytes | None]:
        """Return the image and, if there was one, the reference; neither is copied.

        A reference without name and content counts as none: a browser sends one if no file was chosen.
        """
        if self._preamble is not None:
            raise BadMultipart(MALFORMED)
        if not self._has_ended:
            raise BadMultipart("the form ends before its last boundary")
        if b"image" not in self._files:
            raise BadMultipart("the form has no file `image`; name the part `image`, or send the image as the body")
        reference = self._files.get(b"reference", BytesIO()).getvalue()
        was_sent = b"reference" in self._files and (reference or not self._is_reference_unnamed)
        return self._files[b"image"].getvalue(), reference if was_sent else None

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadMultipart(f"the form has more than {MAX_PARTS} parts; send `image` and, if any, `reference`")
        self._disposition, self._encoding, self._file = b"", b"", None

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        elif self._header_name.lower() == b"content-transfer-encoding":
            self._encoding = bytes(self._header_value).strip().lower()
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        options = parse_options_header(self._disposition)[1]
        name = options.get(b"name")
        if name is None:
            raise BadMultipart("a part of the form has no name")
        if name in OF_THE_ADDRESS:
            word = name.decode()
            raise BadMultipart(f"`{word}` belongs into the address, as in /segment/…?{word}=…, not into the form")
        if name not in KNOWN:
            return
        word = name.decode()
        if b"filename" not in self._disposition.lower():  # or `filename*`, which some libraries send
            raise BadMultipart(f"`{word}` must be a file: give the part a filename")
        if self._encoding not in AS_THEY_ARE:
            raise BadMultipart(f"`{word}` has a Content-Transfer-Encoding; send its bytes as they are")
        if name in self._files:
            raise BadMultipart(f"`{word}` was sent more than once")
        self._file = self._files[name] = BytesIO()
        if name == b"reference":
            self._is_reference_unnamed = options.get(b"filename") == b""

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])

    def _end(self) -> None:
        self._has_ended = True


def _boundary(content_type: str) -> bytes:
    if len(content_type) > MAX_CONTENT_TYPE:
        raise BadMultipart(f"the Content-Type of a form has at most {MAX_CONTENT_TYPE} characters")
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BadMultipart("the Content-Type of a form must name its boundary")
    return boundary
