"""Values that are malformed in as many ways as requests have parts."""

from __future__ import annotations

import uuid

PATH_PARTS = (
    "%00",
    "%ff%fe",
    "..",
    "%2e%2e%2f",
    "//",
    "'",
    "%",
    "%zz",
    "a" * 3_000,
    "{x}",
    "%0d%0a",
    "%F0%9F%94%8A",
    ";x=1",
    "*",
    "%ed%a0%80",
)

METHODS = (
    "PUT",
    "PATCH",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "TRACE",
    "BREW",
    "WEBSOCKET",
    "get",
    "X" * 90,
)

QUERY_NAMES = (
    "limit",
    "cursor",
    "x",
    "",
    "%00",
    "state",
    "bands",
    "metadata",
    "calibration_db",
    "batch_id",
    "file_name",
    "sort",
    "model",
    "%ff",
    "recorded_at",
    "priority",
)

QUERY_VALUES = (
    "",
    "1",
    "-1",
    "9" * 40,
    "nan",
    "1e999",
    "%00",
    "%ff",
    "[]",
    "{}",
    "null",
    "a,b",
    "x" * 2_000,
    "%F0%9F%94%8A",
    "2026-99-99",
    "=&=",
    "%",
    "true",
    "%ed%a0%80",
)

HEADER_NAMES = (
    "Idempotency-Key",
    "X-Request-ID",
    "If-None-Match",
    "Range",
    "If-Modified-Since",
    "Cookie",
    "traceparent",
    "Last-Event-ID",
    "Expect",
    "Content-Encoding",
    "X-\x7f",
    "Accept-Encoding",
    "Upgrade",
    "If-Range",
    "X-Forwarded-For",
    "Forwarded",
    "Date",
)

HEADER_VALUES = (
    b"",
    b'"',
    b'"a"',
    b"\xff\xfe",
    b"bytes=-",
    b"bytes=5-1",
    b"bytes=0-,1-",
    b"a" * 5_000,
    b"bytes=99999999999999999999-",
    b'W/"',
    b"*",
    b"gzip",
    b"100-continue",
    b"a\tb",
    b"a=;b",
    b"=?utf-8?q?=00?=",
    b'for="',
    b"websocket",
    b"\x80",
    b'"\\"',
    b"yesterday",
)

AUTHORIZATIONS = (
    b"",
    b"Bearer",
    b"Bearer ",
    b"Basic eDp4",
    b"Bearer \xff",
    b"Bearer clamor_",
    b"Bearer clamor_" + b"0" * 16 + b"_" + b"x" * 43,
    b"x" * 9_000,
    b"Bearer a b c",
)

JSON_VALUES = (
    "",
    "x",
    "\0",
    "a\0@b",
    "\ud800",
    "é" * 300,
    0,
    -1,
    10**40,
    1e308,
    None,
    True,
    "inbox/",
    "inbox/../x",
    "http://127.0.0.1/",
    "file:///etc/passwd",
    str(uuid.UUID(int=1)),
)

JSON_NAMES = (
    "keys",
    "prefix",
    "email",
    "name",
    "scopes",
    "force",
    "overlap_hours",
    "url",
    "expires_in_days",
    "source_url",
    "upload_id",
    "all_sessions",
    "x",
    "\0",
    "options",
    "requests_per_s",
    "max_audio_s_per_month",
)

FORM_CONTENTS = (
    b"",
    b"{}",
    b"file,label\na,b\n",
    b"file,label\na\0,b\n",
    b"\xff" * 50,
    b"RIFF\0\0\0\0WAVE",
    b'{"seed": 1e99}',
    b'file,label\n"a',
    b"x" * 30_000,
    b"file,label,start_s,end_s\na,b,nan,inf\n",
    b"onset_s,file\n",
)

FORM_PARAMETERS = (
    b"",
    b"; boundary=",
    b"; boundary=b; boundary=c",
    b'; boundary="b',
    b"; boundary=\xff",
    b"; boundary=" + b"b" * 500,
    b"; charset=x; boundary=b",
    b";;=;",
    b"; boundary=c",
)

CHUNKED_BODIES = (
    b"0\r\n\r\n",
    b"zz\r\n",
    b"5\r\nab",
    b"-1\r\n",
    b"ffffffffffffffffffff\r\nx",
    b"",
    b"3\r\nabc\r\n0\r\n\r\n",
    b"3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n",
)

MEDIA_TYPES = (
    b"",
    b"/",
    b";",
    b"text/xml",
    b"application/x-www-form-urlencoded",
    b"\xff",
    b"a" * 900,
    b"application/json; charset=utf-16",
    b"audio/wav; x",
    b"multipart/mixed; boundary=b",
)

ACCEPTED = (
    b"text/xml",
    b"application/xml;q=2",
    b"",
    b"*",
    b"\xff",
    b"image/png, */*;q=0",
    b";q",
)
