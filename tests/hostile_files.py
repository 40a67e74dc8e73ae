"""Files of just the size that is read, made so that their reader takes as long, or as much memory, as it can."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping

from lora_backend.config.config_text import MAX_CONFIG_BYTES, MAX_LINES

SIZE = MAX_CONFIG_BYTES
LINES = MAX_LINES - 10
KEYS, VALUES = 1_990, 9_900
"""Just below what a config may have."""


def repeated(unit: str, head: str = "", tail: str = "") -> str:
    """As often as it goes into a config."""
    return head + unit * ((SIZE - len((head + tail).encode())) // len(unit.encode())) + tail


def numbered(unit: str, head: str = "", tail: str = "", count: int | None = None) -> str:
    """The same with a number in each; `count`: not more than that."""
    parts, size = [head], len(head) + len(tail)
    for number in itertools.count() if count is None else range(count):
        part = unit.format(n=number)
        size += len(part)
        if size > SIZE:
            break
        parts.append(part)
    return "".join([*parts, tail])


YAML = {
    "keys": numbered("k{n}: 1\n"), "keys, a few less than too many": numbered("k{n}: 1\n", count=KEYS),
    "keys in a mapping": numbered("  k{n}: 1\n", "a:\n"), "keys in braces": numbered("k{n}: 1,", "a: {", "z: 1}\n"),
    "entries": repeated("- 1\n", "a:\n"), "entries, a few less than too many": "a:\n" + "- 1\n" * VALUES,
    "entries in brackets": repeated("1,", "a: [", "1]\n"), "empty lists": repeated("[],", "a: [", "1]\n"),
    "aliases": repeated("*x,", "a: &x 1\nb: [", "1]\n"), "anchors": numbered("- &a{n} 1\n", "a:\n", count=VALUES),
    "aliases of aliases": "a0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)),
    "merges": "a: &a {x: 1}\n" + "".join(f"m{n}: {{<<: *a}}\n" for n in range(KEYS // 2)),
    "a long tag": "a: !" + "x" * (SIZE - 10) + " 1\n", "long tags": repeated("- !" + "x" * 1990 + " 1\n", "a:\n"),
    "tags with percent signs": repeated("- !" + "%41" * 660 + " 1\n", "a:\n"), "directives": numbered("%TAG !a{n}! tag:x,2000:\n", tail="--- \na: 1\n"),
    "comments": "# a comment\n" * LINES + "a: 1\n", "comments in a list": "a:\n  - 1\n" + "# aaaaaaa\n" * LINES + "  - 2\n",
    "blank lines": "a: 1\n" + "\n" * LINES + "b: 1\n", "words": repeated("x ", "a: "), "a text of many lines": 'a: "' + "x y z x y\n" * LINES + '"\n',
    "a text that does not end": 'a: "' + "x" * (SIZE - 10), "escapes": repeated("\\x41", 'a: "', '"\n'), "a block of text": "a: |\n" + "  xxxxxxx\n" * LINES,
    "question marks": "? a\n: b\n" * (LINES // 2), "dashes": repeated("- "), "brackets": repeated("["), "dates": "a:\n" + "- 2001-99-99\n" * VALUES,
    "a hexadecimal number": "r: 0x" + "f" * (SIZE - 10), "a number with underscores": "r: 1" + "_1" * (SIZE // 2 - 10),
    "an exponent": "r: 1e" + "9" * (SIZE - 10), "null bytes": "a: 1\n" + "\0" * (SIZE - 10), "the same key": "a: 1\n" * KEYS,
    "keys that are nearly known": numbered("learning_rate{n}: 1\n", count=KEYS), "marks of an encoding": repeated("\ufeff", "a: 1\n"),
}  # fmt: skip
TOML = {
    "dots": ".".join("a" * (SIZE // 2 - 5)) + "=1", "quoted dots": ".".join(['"a"'] * (SIZE // 4 - 5)) + "=1",
    "dots with spaces": " . ".join("a" * (SIZE // 4 - 5)) + "=1", "dots in a header": "[" + ".".join("a" * (SIZE // 2 - 5)) + "]",
    "dots in every key": "\n".join(f"k{n}." + ".".join("a" * 95) + "=1" for n in range(1300)), "dots in braces": "x={" + ".".join("a" * (SIZE // 2 - 9)) + "=1}",
    "tables": numbered("[t{n}]\n"), "arrays of tables": repeated("[[a]]\n"), "arrays in arrays of tables": repeated("[[a]]\n[[a.b]]\n"),
    "a wide table": numbered("k{n}=1,", "a={", "z=1}"), "entries": repeated("1,", "a=[", "1]"), "comments in a list": "a=[" + "#\n" * LINES + "1]",
    "quotes": repeated('"" ', 'a="""', '"""'), "nothing but quotes": '"' * SIZE, "escapes": repeated("\\u0041", 'a="', '"'),
    "braces in braces": "\n".join(f"a{n}=" + "{a=" * 90 + "1" + "}" * 90 for n in range(900)), "a hexadecimal number": "a=0x" + "f" * (SIZE - 10),
    "a long number": "a=" + "1" * (SIZE - 10), "a long fraction": "a=1." + "1" * (SIZE - 10), "dates": repeated("2001-01-01,", "a=[", "1]"),
}  # fmt: skip
JSON = {
    "keys": numbered('"k{n}":1,', "{", '"z":1}'), "keys, a few less than too many": numbered('"k{n}":1,', "{", '"z":1}', KEYS),
    "entries": repeated("1,", '{"a":[', "1]}"), "entries, a few less than too many": '{"a":[' + "1," * VALUES + "1]}", "empty lists": repeated("[],", '{"a":[', "1]}"),
    "the same key": repeated('"a":1,', "{", '"z":1}'), "long numbers": repeated("1" * 4299 + ",", '{"a":[', "1]}"), "one long number": '{"a":' + "1" * (SIZE - 10) + "}",
    "escapes": repeated("\\ud800", '{"a":"', '"}'), "backslashes": '{"a":"' + "\\" * (SIZE - 10) + '"}', "nothing but quotes": '"' * SIZE, "spaces": '{"a":' + " " * (SIZE - 10) + "1}",
}  # fmt: skip

HOSTILE_FILES: dict[str, tuple[str, bytes]] = {
    f"{ending}: {title}": (f"config.{ending}", text.encode("utf-8", "surrogatepass")[:SIZE])
    for ending, texts in (("yaml", YAML), ("toml", TOML), ("json", JSON))
    for title, text in texts.items()
}
"""What somebody uploads or opens as a config: title → name and bytes."""


def header(entries: Mapping[str, object] | bytes, data_bytes: int = 0) -> bytes:
    """A safetensors file; the tensors' bytes are zeros."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text + b"\0" * data_bytes


HOSTILE_HEADERS: dict[str, Callable[[], bytes]] = {
    "85 MB of tensors": lambda: header(b"{" + b",".join(b'"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(1_450_000)) + b"}"),
    "16 MB of tensors": lambda: header(b"{" + b",".join(b'"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(120_000)) + b"}"),
    "16 MB of lists": lambda: header(b'{"a":[' + b"[]," * 5_500_000 + b"1]}"),
    "16 MB of brackets": lambda: header(b"[" * (16 * 2**20)),
    "a shape of long numbers": lambda: header(b'{"a":{"dtype":"F32","data_offsets":[0,0],"shape":[' + b",".join([b"9" * 4299] * 3_000) + b"]}}"),
    "a shape of a million sides": lambda: header(b'{"a":{"dtype":"F32","data_offsets":[0,0],"shape":[' + b"2," * 900_000 + b"2]}}"),
    "a header that does not end": lambda: header(b'{"a":"' + b"x" * (16 * 2**20 - 6)),
}  # fmt: skip
"""What lies as `adapter_model.safetensors` in a folder that is opened."""

HOSTILE_ROWS: dict[str, Callable[[], bytes]] = {
    "one line of 50 MB": lambda: b'{"prompt":"' + b"x" * (50 * 2**20 - 11),
    "50 MB of blank lines": lambda: b"\n" * (50 * 2**20),
    "50 MB of brackets": lambda: b"[" * (50 * 2**20),
    "50 MB of empty lists": lambda: b'{"prompt":[' + b"[]," * (16 * 2**20) + b"1]}",
    "a million and a half rows": lambda: b'{"prompt":"a","completion":"b"}\n' * 1_500_000,
    "columns that are all different": lambda: b"".join(b'{"prompt":"","completion":"b","c%d":1}\n' % n for n in range(900_000)),
}  # fmt: skip
"""What is uploaded as a data set, or lies where a config names it."""
