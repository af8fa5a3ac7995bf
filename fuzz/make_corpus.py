"""Writes the named files of corpus/: short scripts that each stand for one thing that could go wrong.

    python3 make_corpus.py

The bytes are what the `Arbitrary` impls in crates/millstream-core/tests/model decode, so run this again after a change
to the operations there. Files named find-* come from fuzzing runs and are not touched.
"""

from pathlib import Path

ALPHABET = "ab;rn0"  # r, n and 0 stand for CR, LF and NUL
READ = ["Feed", "Dribble", "FeedRun", "Ask", "AskAgain", "Cancel", "Eof", "Fail", "Reconnect"]
ASK = ["Some", "Exactly", "Until", "Line", "All"]
WRITE = ["Push", "PushShared", "Advance", "AdvanceBy", "AdvanceThrough", "SetWatermarks", "SetHardCap", "SetCorked",
         "SetCorkThreshold", "Admit", "Clear"]
LENGTH = ["Empty", "Small", "About4Kib", "About64Kib"]
HUGE, QUARTER = "usize::MAX", "1 << 62"


def variant(names, name):
    """The least u32 that a derived impl maps to this variant."""
    return (-(-(names.index(name) << 32) // len(names))).to_bytes(4, "little")


def letters(text):
    return bytes(ALPHABET.index(letter) for letter in text)


def text(text):
    return bytes([len(text)]) + letters(text)


def size(n):
    if n in (HUGE, QUARTER):
        return bytes([n == QUARTER])
    return bytes([4, n]) if n <= 20 else bytes([2]) + n.to_bytes(2, "little")


def length(kind, offset=0):
    return variant(LENGTH, kind) + (b"" if kind == "Empty" else bytes([offset]))


def feed(data):
    return b"".join(variant(READ, "Feed") + text(data[at : at + 12]) for at in range(0, max(len(data), 1), 12))


def feeds(*chunks):
    return b"".join(map(feed, chunks))


def dribble(data):
    return variant(READ, "Dribble") + text(data)


def run_of(letter, count):
    return variant(READ, "FeedRun") + letters(letter) + count.to_bytes(2, "little")


def ask(kind, number=None):
    return variant(READ, "Ask") + variant(ASK, kind) + (b"" if number is None else size(number))


def until(*separators):
    lists = b"".join(bytes([len(s) - 1]) + letters(s) for s in separators)
    return variant(READ, "Ask") + variant(ASK, "Until") + bytes([2, len(separators) - 1]) + lists


def reader(limit):
    return variant(READ, "Reconnect") + size(limit)


def op(name, *parts):
    return variant(READ if name in READ else WRITE, name) + b"".join(parts)


LINE, EOF, FAIL, CANCEL = ask("Line"), op("Eof"), op("Fail"), op("Cancel")
READ_OPS = {
    "separator-over-four-segments": reader(20) + until("rnrn") + feeds("abr", "n", "r", "n;"),
    "separator-breaks-off": reader(20) + until("rnrn") + feeds("arnr", "arn", "rr", "nrn"),
    "overlapping-separator": reader(20) + until("aab") + feeds("aa", "a", "aba", "ab") + until("aab"),
    "ends-at-the-same-byte": reader(20) + feed("aabab;b") + until("aab", "ab", "b") * 3,
    "line-at-the-limit": reader(4) + feed("abab") + LINE + feed("n"),
    "line-one-above-the-limit": reader(4) + feed("ababan;n") + LINE * 3,
    "line-without-end-above-the-limit": reader(4) + LINE + feeds("ab", "abab", "ban") + LINE,
    "overrun-leaves-the-bytes": reader(3) + feed("ababab;b") + until(";") * 2 + ask("Some", 20) + EOF + until(";"),
    "overrun-with-a-longer-separator": reader(3) + until(";", "rnrn") + feeds("aba", "ba", "br", "n;"),
    "cancelled-exact-read-loses-nothing": reader(8) + ask("Exactly", 10) + feed("ababa") + CANCEL + ask("Some", 9),
    "cancelled-search-for-another-separator": reader(20) + until("rn") + feed("abn;ar") + CANCEL + until("n")
    + until("rn") + feed("n"),
    "taken-while-a-search-is-remembered": reader(20) + until("rnrn") + feed("ababrnr") + ask("Some", 6) + until("rnrn")
    + feeds("n", "rnrn"),
    "given-away-while-a-search-is-remembered": reader(HUGE) + until("rn") + run_of("a", 40_000) + ask("Exactly", 40_000)
    + feed("arn") + until("rn"),
    "list-that-begins-like-another": reader(20) + until(";", "rnrn") + feed("abrn") + until(";") + feed("rn")
    + until(";", "rnrn"),
    "end-inside-a-line": reader(8) + feed("abnab") + LINE + EOF + LINE * 2,
    "end-inside-an-exact-read": reader(8) + ask("Exactly", 5) + feed("ab") + EOF + ask("Exactly", 5),
    "end-inside-an-item": reader(8) + until("rn") + feed("abr") + EOF + until("rn"),
    "failure-comes-behind-the-bytes": reader(8) + feed("abnab") + FAIL + LINE * 2 + ask("Some", 1) + ask("Some", 9) * 2,
    "exact-read-without-end": reader(8) + ask("Exactly", QUARTER) + feed("abababab;") + EOF + ask("Exactly", HUGE),
    "limit-without-end": reader(HUGE) + until("rn", "0") + run_of("a", 40_000) + feed("r") + EOF,
    "paused-above-twice-the-limit": reader(5) + feed("ababababab") + feed("a") + ask("Some", 5) + ask("Some", 1),
    "waiting-read-resumes": reader(5) + feed("ababababababab") + ask("Exactly", 20) + feed("abababab"),
    "runs-longer-than-a-fill": reader(20) + run_of("a", 9000) * 3 + ask("Exactly", 20_000) + ask("Some", 65_535)
    + run_of("b", 65_535) * 3 + ask("Exactly", 60_000) * 3 + EOF + ask("All"),
    "separator-behind-a-search-window": reader(HUGE) + run_of("a", 254) + feed("rnrn;") + until("rnrn", "0"),
    "one-byte-at-a-time": reader(20) + until("rn", "n") + dribble("ab") + dribble("ar") + dribble("n;n") + LINE,
    "everything-to-the-end": reader(3) + ask("All") + feeds("abab", "", "rn0") + EOF + ask("All"),
    "nothing-asked-nothing-given": ask("Some", 0) + ask("Exactly", 0) + feed("") + EOF + ask("Some", 0) + ask("All"),
}

CHUNK = length("About64Kib", 200)
WRITE_OPS = {
    "empty-messages": op("Push", length("Empty")) * 3 + op("PushShared", length("Empty")) + op("Advance", b"\xff"),
    "small-and-large-in-turn": (op("Push", length("Small", 3)) + op("PushShared", length("About4Kib", 200))) * 3
    + op("AdvanceBy", b"\x05") * 4 + op("Advance", b"\x80") * 3 + op("Advance", b"\xff"),
    "around-the-size-worth-sharing": b"".join(op("PushShared", length("About4Kib", n)) for n in (127, 128, 129))
    + op("Advance", b"\x55") * 4,
    "around-a-full-chunk": b"".join(op("Push", length("About64Kib", n)) for n in (127, 128, 129))
    + op("Advance", b"\x55") * 4 + op("Push", length("Small", 9)) + op("Advance", b"\xff"),
    "pause-and-its-end": op("Push", CHUNK) * 2 + op("Advance", b"\x80") * 5,
    "marks-of-zero": op("SetWatermarks", size(0), size(0)) + op("Push", length("Small", 2)) + op("AdvanceBy", b"\x01") * 2,
    "marks-raised-while-paused": op("SetWatermarks", size(9), size(2)) + op("Push", length("Small", 12))
    + op("SetWatermarks", size(20), size(2)),
    "marks-lowered-below-the-queue": op("Push", length("Small", 12)) + op("SetWatermarks", size(9), size(9))
    + op("AdvanceBy", b"\x02") + op("AdvanceBy", b"\x01"),
    "low-above-high": op("SetWatermarks", size(3), size(4)) + op("SetWatermarks", size(HUGE), size(QUARTER)),
    "direct-send-of-all": op("Push", length("Small", 9)) + op("AdvanceThrough", length("Small", 20), b"\xff"),
    "direct-send-of-a-part": op("Push", length("Small", 9)) + op("AdvanceThrough", length("Small", 200), b"\x40") * 3,
    "direct-send-of-nothing": op("AdvanceThrough", CHUNK, b"\0") + op("Advance", b"\xff"),
    "direct-send-ends-and-begins-a-pause": op("SetWatermarks", size(20), size(4)) + op("Push", length("Small", 30))
    + op("AdvanceThrough", length("Small", 60), b"\xa0") + op("AdvanceThrough", length("Small", 60), b"\xf0"),
    "hard-cap": op("SetHardCap", b"\x01", size(20)) + (op("Push", length("Small", 9)) + op("Admit", size(2))) * 3
    + op("AdvanceBy", b"\x09") + op("Push", length("Small", 9)) + op("SetHardCap", b"\0") + op("Admit", size(HUGE)),
    "hard-cap-without-end": op("SetHardCap", b"\x01", size(HUGE)) + op("Push", length("Small", 1)) + op("Admit", size(HUGE))
    + op("Admit", size(QUARTER)),
    "hard-cap-below-the-queue": op("Push", length("Small", 30)) + op("SetHardCap", b"\x01", size(9))
    + op("Push", length("Empty")) + op("Admit", size(0)),
    "cork": op("SetCorkThreshold", size(9)) + op("Admit", size(8)) + op("Admit", size(9)) + op("SetCorked", b"\0")
    + op("Admit", size(1)) + op("SetCorked", b"\x01") + op("Push", length("Small", 8)) + op("Admit", size(1)),
    "cleared-while-paused": op("Push", CHUNK) * 2 + op("AdvanceBy", b"\x63") + op("Clear") + op("Push", length("Small", 3)),
}

for target, files in {"read_ops": READ_OPS, "write_ops": WRITE_OPS}.items():
    folder = Path(__file__).parent / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
