"""Mutations of valid files: bytes, text tables, JSON; each drawn from the generator that is passed."""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

Mutator = Callable[[bytes, random.Random], bytes]

# What has a meaning to one of the formats, or has broken readers elsewhere.
TOKENS = [
    "", " ", "\t", ",", ";", "|", "\n", "\r", "\r\n", '"', '""', "'", "#", "\\", "/", "\x00", "\x0b", "\x1a", "\x85",
    "\ufeff", "\u2028", "\u00a0", "\u202e", "é", "e\u0301", "😀", "\ufffe", "\uffff",
    "0", "-0", "1", "-1", "+1", "2", "0.5", "1e5", "1e308", "1e309", "-1e309", "1e-400", "nan", "NaN", "NA", "inf",
    "-inf", "Infinity", "1_000", "0x10", "1,5", "٣", "½", "1" * 400, "9" * 20, "9" * 5000, "2147483648",
    "9223372036854775807", "9223372036854775808", "true", "True", "FALSE", "None", "null", "yes", "no", "x",
    "source", "target", "sign", "from", "to", "kind", "known", "score", "rank", "p", "q", "is_directed", "directed",
    "is_stimulation", "is_inhibition", "consensus_stimulation", "consensus_inhibition", "effect", "mor", "weight",
    "ENTITYA", "ENTITYB", "EFFECT", "source_genesymbol", "target_genesymbol", "proposed", "activates", "inhibits",
    "TR:", "DV:", "DA:", "ID:", "TR:a", "DV:a", "DA:a", "DA:ALL", "TR:a:CellLine", "TR:a:Inhibitors", "TR:NOINHIB",
    "TR:ai", "sample", "condition", "a", "b", "ai", "=1+1", "@x", "a" * 300, "../x", "__proto__", "constructor",
    "</script>", "&amp;", "&x;", "<!DOCTYPE x [<!ENTITY x 'y'>]>", "<key id='d9' for='edge' attr.name='sign'/>",
    "<node id='a'/>", "<edge source='a' target='b'/>", "<hyperedge/>", "<graph>", "</graph>", "<data key='d0'>1</data>",
    "edgedefault='undirected'", "directed='false'", "[data]", "[train]", "epochs = 3", "[[", "]]", "{", "}", "[", "]",
    "= 1979-05-27", "'''", '"""', "\\u0000", "\\ud800", "PAR1", "\x89HDF",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**9, 10**30, -(10**30), 0.5, 1e308, float("nan"), float("inf"),
    "", "a", "nan", "../../etc/passwd", "/dev/zero", "\x00", "a" * 1000, [], {}, [[]], [0], ["a"], [None], {"a": 1},
    [1e400], "Transformer", "Module", "Linear", "float16", [[0], [0]], [-1, 5],
]  # fmt: skip
_DEEP = "lists in lists"
_BYTES = [bytes([b]) for b in (0, 1, 9, 10, 13, 0x20, 0x22, 0x2C, 0x7F, 0x80, 0xC0, 0xED, 0xFE, 0xFF)]
_BYTES += [
    b"\xff\xff\xff\xff",
    b"\x00" * 8,
    b"\x7f\xff\xff\xff",
    b"\xff" * 8,
    b"\x1f\x8b\x08",
    b"PK\x03\x04",
    b"\x80\x04",
]


def _place(data: bytes, rng: random.Random) -> tuple[int, int]:
    """Where a piece begins and ends; short pieces are the commonest."""
    a = rng.randrange(len(data) + 1)
    return a, min(len(data), a + min(rng.choice([1, 2, 4, 8, 32, 256, len(data)]), len(data)))


def _flip(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        if found:
            found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    a, _ = _place(data, rng)
    piece = rng.choice(_BYTES)
    return data[:a] + piece + data[a + len(piece) :]


def _truncate(data: bytes, rng: random.Random) -> bytes:
    a = rng.randrange(len(data) + 1)
    return data[:a] if rng.random() < 0.8 else data[a:]


def _delete(data: bytes, rng: random.Random) -> bytes:
    a, b = _place(data, rng)
    return data[:a] + data[b:]


def _duplicate(data: bytes, rng: random.Random) -> bytes:
    a, b = _place(data, rng)
    return data[:b] + data[a:b] * rng.choice([1, 1, 2, 50]) + data[b:]


def _move(data: bytes, rng: random.Random) -> bytes:
    a, b = _place(data, rng)
    rest = data[:a] + data[b:]
    c = rng.randrange(len(rest) + 1)
    return rest[:c] + data[a:b] + rest[c:]


def _insert(data: bytes, rng: random.Random) -> bytes:
    a, _ = _place(data, rng)
    return data[:a] + rng.choice(TOKENS).encode("utf-8", "surrogatepass") + data[a:]


_RAW: Sequence[Mutator] = (_flip, _flip, _overwrite, _truncate, _delete, _duplicate, _move, _insert)


def raw(data: bytes, rng: random.Random) -> bytes:
    """One to four mutations that know nothing of the format."""
    for _ in range(rng.choice([1, 1, 2, 4])):
        data = rng.choice(_RAW)(data, rng)
    return data


def table(data: bytes, rng: random.Random) -> bytes:
    """Mutations of cells, rows and columns of a delimited text; sometimes of its bytes as well."""
    text = data.decode("utf-8", "replace")
    delimiter = max("\t,;|", key=text.count)
    rows = [line.split(delimiter) for line in text.split("\n")]
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        rows = rng.choice(_TABLE)(rows, rng)
    if rng.random() < 0.1:
        delimiter = rng.choice("\t,;| ")
    changed = rng.choice(["\n", "\n", "\n", "\r\n", "\r"]).join(delimiter.join(row) for row in rows)
    encoding = rng.choice(["utf-8"] * 12 + ["utf-16", "utf-8-sig", "latin-1", "utf-16-le"])
    result = changed.encode(encoding, "replace")
    return raw(result, rng) if rng.random() < 0.15 else result


Rows = list[list[str]]


def _cell(rows: Rows, rng: random.Random) -> Rows:
    row = rng.choice(rows)
    if row:
        row[rng.randrange(len(row))] = rng.choice(TOKENS)
    return rows


def _header(rows: Rows, rng: random.Random) -> Rows:
    if rows and rows[0]:
        rows[0][rng.randrange(len(rows[0]))] = rng.choice([*TOKENS, rng.choice(rows[0])])
    return rows


def _quote(rows: Rows, rng: random.Random) -> Rows:
    row = rng.choice(rows)
    if row:
        j = rng.randrange(len(row))
        row[j] = rng.choice(['"{}"', '"{}', '{}"', '""{}', '"{}\n"', '"a""{}"', "'{}'"]).format(row[j])
    return rows


def _row(rows: Rows, rng: random.Random) -> Rows:
    i = rng.randrange(len(rows))
    what = rng.randrange(5)
    if what == 0:
        return rows[:i] + rows[i + 1 :] or [[""]]
    if what == 1:
        return rows[:i] + [list(rows[i]) for _ in range(rng.choice([1, 2, 40]))] + rows[i:]
    if what == 2:
        rng.shuffle(rows)
        return rows
    if what == 3:
        rows[i] = rows[i][: rng.randrange(len(rows[i]) + 1)]
        return rows
    return [*rows[:i], [rng.choice(TOKENS) for _ in range(rng.randrange(6))], *rows[i:]]


def _column(rows: Rows, rng: random.Random) -> Rows:
    j, what = rng.randrange(max(len(rows[0]), 1)), rng.randrange(4)
    if what == 0:
        return [row[:j] + row[j + 1 :] for row in rows]
    if what == 1:
        return [row[: j + 1] + row[j : j + 1] * rng.choice([1, 2, 30]) + row[j + 1 :] for row in rows]
    if what == 2:
        token = rng.choice(TOKENS)
        return [rows[0], *([*row[:j], token, *row[j + 1 :]] if len(row) > j else row for row in rows[1:])]
    return [[*row[:j], rng.choice(TOKENS), *row[j:]] for row in rows]


_TABLE = (_cell, _cell, _cell, _header, _header, _quote, _row, _column)


def tree(data: bytes, rng: random.Random) -> bytes:
    """Mutations of the values and keys of a JSON file; sometimes of its text."""
    if rng.random() < 0.25:
        return raw(data, rng)
    value = json.loads(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        value = change(value, rng)
    return _dumped(value, rng)


def _dumped(value: Any, rng: random.Random) -> bytes:
    """JSON; a mark becomes lists in lists, deeper than the writer of JSON could go."""
    depth = rng.choice([3, 200, 20_000])
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5).replace(f'"{_DEEP}"', "[" * depth + "]" * depth)
    return text.encode("utf-8", "surrogatepass")


def change(value: Any, rng: random.Random) -> Any:
    """One value somewhere in a tree of JSON replaced, removed, repeated or renamed."""
    places = list(_places(value))
    if not places:
        return copy.deepcopy(rng.choice(VALUES))
    # The depth is drawn first, or the many leaves would get all mutations.
    depth = rng.choice(sorted({len(path) for path in places}))
    path = rng.choice([path for path in places if len(path) == depth])
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    key, what = path[-1], rng.randrange(8)
    if what == 0:
        del inner[key]
    elif what == 1 and isinstance(inner, list):
        inner.insert(key, inner[key])
    elif what == 1:
        inner[rng.choice(["a", "", "__class__", str(key) + "x"])] = inner.pop(key)
    elif what == 2:
        inner[key] = [inner[key]]
    elif what == 3:
        inner[key] = _DEEP if rng.random() < 0.1 else {"a": [inner[key]]}
    else:
        inner[key] = copy.deepcopy(rng.choice(VALUES))
    return value


def _places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items)[:200]:
        yield (*path, key)
        if len(path) < 8:
            yield from _places(item, (*path, key))


def markup(data: bytes, rng: random.Random) -> bytes:
    """Mutations of tags, attributes and texts of XML; sometimes of its bytes as well."""
    parts = re.split(r"(<[^>]*>)", data.decode("utf-8", "replace"))
    for _ in range(rng.choice([1, 1, 2, 4])):
        i, what = rng.randrange(len(parts)), rng.randrange(6)
        if what == 0:
            del parts[i]
        elif what == 1:
            parts.insert(i, rng.choice(parts))
        elif what == 2:
            parts.insert(i, rng.choice(TOKENS))
        elif what == 3 and not parts[i].startswith("<"):
            parts[i] = rng.choice(TOKENS).replace("<", "&lt;").replace("&", "&amp;")
        else:
            values = [*re.findall(r'"([^"]*)"', "".join(parts)), "", "a", "all", "undirected", "d9", "true"]
            here = [k for k, part in enumerate(parts) if '"' in part]
            if here:
                k, new = rng.choice(here), rng.choice(values)
                found = list(re.finditer(r'"[^"]*"', parts[k]))
                at = rng.choice(found)
                parts[k] = parts[k][: at.start()] + f'"{new}"' + parts[k][at.end() :]
        parts = parts or [""]
    result = "".join(parts).encode("utf-8", "surrogatepass")
    return raw(result, rng) if rng.random() < 0.15 else result


def packed(inner: Mutator) -> Mutator:
    """The same for a file that is packed: the text in it is changed, or the archive."""

    def mutate(data: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.3:
            return raw(data, rng)
        return gzip.compress(inner(gzip.decompress(data), rng), mtime=0)

    return mutate


def header(data: bytes, rng: random.Random) -> bytes:
    """Mutations of the JSON in a safetensors file, nested JSON in its metadata included, or of its bytes."""
    if rng.random() < 0.2:
        return raw(data, rng)
    n = int.from_bytes(data[:8], "little")
    value, rest = json.loads(data[8 : 8 + n]), data[8 + n :]
    for _ in range(rng.choice([1, 1, 2])):
        inside = [key for key, text in value.get("__metadata__", {}).items() if str(text)[:1] == "{"]
        if inside and rng.random() < 0.7:
            key = rng.choice(inside)
            with contextlib.suppress(RecursionError, ValueError):  # made so by the mutation before
                inner = change(json.loads(value["__metadata__"][key]), rng)
                value["__metadata__"][key] = _dumped(inner, rng).decode("utf-8", "replace")
        elif rng.random() < 0.3:
            names = [name for name in value if name != "__metadata__"]
            a, b = rng.choice(names), rng.choice(names)
            value[a], value[b] = value[b], value[a]
        else:
            value = change(value, rng)
            if not isinstance(value, dict) or not isinstance(value.get("__metadata__", {}), dict):
                break
    text = _dumped(value, rng)
    length = len(text) if rng.random() < 0.95 else rng.choice([0, 2**31, 2**63, len(text) - 1])
    return length.to_bytes(8, "little") + text + (raw(rest, rng) if rng.random() < 0.1 else rest)
