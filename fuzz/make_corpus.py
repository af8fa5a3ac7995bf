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
TLS = ["Relay", "RelayInPieces", "Flip", "Lose", "Repeat", "Raw", "Record", "Sealed", "PeerWrites", "PeerRenewsKeys",
       "PeerCloses", "Write", "Flush", "CloseNotify"]
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
    names = READ if name in READ else WRITE if name in WRITE else TLS
    return variant(names, name) + b"".join(parts)


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


def number(n, size=2):
    return n.to_bytes(size, "little")


def raw(data):
    return op("Raw", bytes([len(data)]), data)


def record(kind, body, claims=0):
    """Claims another length than that of its body if that is at least 60,000."""
    return op("Record", bytes([kind - 20]), number(claims), bytes([len(body)]), body)


def sealed(kind, body):
    return op("Sealed", bytes([kind - 20]), bytes([len(body)]), body)


CLIENT, TLS12, OPENED = 1, 2, 4
CCS, ALERT, HANDSHAKE, DATA, HEARTBEAT = range(20, 25)
NEXT, ALL = op("Relay", number(0xFFFF)), op("Flush", number(0xFFFF))
SHAKE, END = (ALL + NEXT) * 3, op("CloseNotify")
BYTEWISE = op("RelayInPieces", b"\1")
KEY_UPDATE, CLOSED = bytes([24, 0, 0, 1, 1]), bytes([1, 0])
TICKET = bytes([4, 0, 0, 20, 0, 0, 1, 0, 1, 2, 3, 4, 1, 9, 0, 6]) + b"ticket" + bytes([0, 0])


def both_ways(small, large):
    return op("Write", number(small)) + op("PeerWrites", number(large)) + (ALL + NEXT) * 2


def flips(*places):
    return b"".join(op("Flip", number(place), b"\x10") for place in places)


# What happens, without the byte that says to which side and when.
CONVERSATIONS = {
    "byte-by-byte": (ALL + BYTEWISE) * 3 + both_ways(300, 200) + BYTEWISE + op("PeerCloses") + BYTEWISE,
    "large-both-ways": SHAKE + both_ways(60_000, 60_000) * 2 + op("PeerWrites", number(40_000))
    + op("RelayInPieces", b"\xfb") + op("PeerCloses") + END,
    "small-sends": SHAKE + op("Write", number(5_000)) + op("Flush", number(7)) * 3 + op("Write", number(1))
    + op("Flush", number(5_100)) + ALL,
    "keys-renewed": SHAKE + (op("PeerRenewsKeys") + both_ways(20, 20)) * 5,
    "half-closed": SHAKE + both_ways(9, 9) + END + ALL + op("PeerWrites", number(30_000)) + NEXT + op("PeerCloses")
    + NEXT,
    "closed-by-the-peer": SHAKE + op("PeerCloses") + NEXT + op("Write", number(900)) + ALL + raw(b"void") + END + ALL,
    "http": raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") + ALL,
    "ssh": op("Lose", b"\xff") + raw(b"SSH-2.0-") + raw(b"OpenSSH_9.6\r\n"),
    "http-in-pieces": raw(b"H") + raw(b"TTP/1.") + raw(b"1 400 Bad Request\r\n\r\n"),
    "goodbye-in-the-handshake": ALL + record(ALERT, CLOSED) + NEXT,
    "goodbye-behind-a-part": ALL + op("Relay", number(9)) + record(ALERT, CLOSED) + NEXT,
    "refused": ALL + record(ALERT, bytes([2, 40])) + ALL,
    "warned": ALL + record(ALERT, bytes([1, 90])) * 8 + NEXT,
    "own-end-in-the-handshake": END + SHAKE,
    "hello-in-fragments": op("Lose", b"\xff") + record(HANDSHAKE, bytes([1, 0, 2])) + record(HANDSHAKE, bytes([0, 3, 3]))
    + record(HANDSHAKE, bytes(63)) * 9,
    "message-without-end": record(HANDSHAKE, bytes([11, 255, 255, 255]) + bytes(59)) + record(HANDSHAKE, bytes(63)) * 30,
    "empty-records": SHAKE + (record(HANDSHAKE, b"") + record(DATA, b"") + record(CCS, b"\1")) * 12,
    "change-cipher-spec-for-ever": ALL + record(CCS, b"\1") * 40,
    "record-too-long": SHAKE + record(DATA, b"abc", 0xFFFF) + raw(bytes(63)) * 3,
    "record-never-complete": SHAKE + op("PeerWrites", number(9_000)) + op("Relay", number(4_000)) + op("Lose", b"\xff"),
    "unknown-record": SHAKE + record(HEARTBEAT, b"\1\0\0") + ALL,
    "repeated": SHAKE + op("PeerWrites", number(50)) + NEXT + op("Repeat") + ALL,
    "out-of-order": SHAKE + op("PeerWrites", number(50)) + op("Lose", b"\5") + NEXT + op("PeerWrites", number(9)) + NEXT,
    "flip-in-the-hello": ALL + flips(6),
    "flip-in-a-length": ALL + flips(3) + ALL + NEXT,
    "flip-in-the-version": ALL + flips(1) + ALL + NEXT,
    "flip-behind-the-hello": ALL + flips(200) + ALL + NEXT,
    "flip-late-in-the-handshake": ALL + NEXT + ALL + flips(20) + ALL + NEXT,
    "flip-in-data": SHAKE + both_ways(9, 20_000) + op("PeerWrites", number(40_000)) + flips(17_000) + ALL + NEXT,
    "flip-behind-the-own-end": SHAKE + END + ALL + op("PeerWrites", number(90)) + flips(30) + ALL + NEXT,
    "rubbish-behind-the-own-end": SHAKE + END + ALL + raw(b"rubbish, and not in a record") + record(DATA, bytes(40)),
    "sealed-data": SHAKE + sealed(DATA, b"data") + sealed(DATA, b"") * 20 + sealed(DATA, b"more") + NEXT,
    "sealed-key-updates": SHAKE + sealed(HANDSHAKE, KEY_UPDATE) + NEXT + op("Write", number(9)) + ALL + sealed(DATA, b"x") + NEXT,
    "sealed-bad-key-update": SHAKE + sealed(HANDSHAKE, KEY_UPDATE[:-1] + b"\7") + NEXT + ALL,
    "sealed-key-updates-in-one": SHAKE + sealed(HANDSHAKE, KEY_UPDATE * 9) + NEXT,
    "sealed-tickets": SHAKE + sealed(HANDSHAKE, TICKET) * 20 + NEXT + both_ways(9, 9),
    "sealed-bad-ticket": SHAKE + sealed(HANDSHAKE, TICKET[:-3]) + NEXT + sealed(HANDSHAKE, TICKET[-3:]) + NEXT + ALL,
    "sealed-message-without-end": SHAKE + sealed(HANDSHAKE, bytes([4, 255, 255, 255]) + bytes(59)) + NEXT
    + (sealed(HANDSHAKE, bytes(63)) + NEXT) * 20,
    "sealed-message-cut-by-data": SHAKE + sealed(HANDSHAKE, bytes([4, 0, 0, 9, 0])) + sealed(DATA, b"x") + NEXT + ALL,
    "sealed-hello": SHAKE + sealed(HANDSHAKE, bytes([1, 0, 0, 0])) + NEXT + ALL,
    "sealed-alert": SHAKE + sealed(DATA, b"read") + sealed(ALERT, bytes([2, 80])) + sealed(DATA, b"unread") + NEXT + ALL,
    "sealed-warnings": SHAKE + sealed(ALERT, bytes([1, 90])) * 9 + NEXT + sealed(ALERT, bytes([1, 112])) + NEXT + ALL,
    "sealed-long-alert": SHAKE + sealed(ALERT, bytes([1, 0, 1, 0])) + NEXT + ALL,
    "sealed-end-and-more": SHAKE + sealed(DATA, b"last") + sealed(ALERT, CLOSED) + sealed(DATA, b"void") + NEXT + NEXT,
    "sealed-change-cipher-spec": SHAKE + sealed(CCS, b"\1") + NEXT + ALL,
    "sealed-alert-behind-the-own-end": SHAKE + END + ALL + sealed(HANDSHAKE, b"\xff\0\0\1?") + NEXT + sealed(DATA, b"x") + NEXT,
}
SETUPS = {"client": CLIENT, "server": 0, "client-12": CLIENT | TLS12, "server-12": TLS12}
TLS_BYTES = {
    f"{name}-{side}": bytes([setup]) + ops
    for name, ops in CONVERSATIONS.items()
    for side, setup in SETUPS.items()
    # Only over TLS 1.3 can the peer seal what it likes.
    if not (setup & TLS12 and name.startswith("sealed"))
}

RAW, LINE, FRAMED, CHECKED = range(4)  # how the proxy_header target reads the rest
MARK = b"\r\n\r\n\0\r\nQUIT\n"
V4, V6 = bytes([192, 0, 2, 1, 198, 51, 100, 1, 19, 136, 1, 187]), bytes(range(36))
UNIX = b"/run/client".ljust(108, b"\0") + b"\0abstract".ljust(108, b"\0")


def tlv(kind, value):
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


SSL = b"\7\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"visitor") + tlv(0x23, b"TLS_AES_128_GCM_SHA256")
TLVS = tlv(1, b"h2") + tlv(2, b"example.org") + tlv(4, b"\0" * 5) + tlv(5, b"id" * 64) + tlv(0x20, SSL) + tlv(0xE0, b"own")
PROXY_HEADER = {
    "nothing": (RAW, b""),
    "http": (RAW, b"GET / HTTP/1.1\r\n\r\n"),
    "hello": (RAW, b"\x16\3\1\2\0\1\0\1\xfc\3\3"),
    "almost-v1": (RAW, b"PROXx TCP4 1.1.1.1 2.2.2.2 1 2\r\n"),
    "almost-v2": (RAW, MARK[:-1] + b"\r!"),
    "v1-in-full": (RAW, b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\n\r\n"),
    "v2-in-full": (RAW, MARK + b"\x21\x11\0\x0c" + V4 + b"GET / HTTP/1.1\r\n\r\n"),
    "v2-in-full-cut": (RAW, MARK + b"\x21\x11\0\x40" + V4),
    "v2-too-long": (RAW, MARK + b"\x21\x11\xff\xff" + V4),
    "v2-short": (RAW, MARK + b"\x21\x21\0\x0c" + V4),
    "v1-v4": (LINE, b"TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"),
    "v1-v6": (LINE, b"TCP6 2001:db8::1 ::ffff:192.0.2.1 1 2\r\n"),
    "v1-v6-longest": (LINE, b"TCP6" + (b" " + b":".join([b"ffff"] * 8)) * 2 + b" 65535 65535\r\n"),
    "v1-two-gaps": (LINE, b"TCP6 1::2::3 ::1 1 2\r\n"),
    "v1-unknown": (LINE, b"UNKNOWN\r\n"),
    "v1-unknown-longest": (LINE, b"UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535".ljust(99, b"x") + b"\r\n"),
    "v1-unknown-without-end": (LINE, b"UNKNOWN " + b"x" * 200),
    "v1-unknown-lone-ends": (LINE, b"UNKNOWN \r\r \n\n\r\n"),
    "v1-lone-line-feed": (LINE, b"TCP4 1.1.1.1 2.2.2.2 1 2\n"),
    "v1-lone-return": (LINE, b"TCP4 1.1.1.1 2.2.2.2 1 2\r "),
    "v1-leading-zeros": (LINE, b"TCP4 1.1.1.01 2.2.2.2 1 2\r\n"),
    "v1-leading-zero-port": (LINE, b"TCP4 1.1.1.1 2.2.2.2 1 02\r\n"),
    "v1-port-too-large": (LINE, b"TCP4 1.1.1.1 2.2.2.2 1 65536\r\n"),
    "v1-two-spaces": (LINE, b"TCP4 1.1.1.1  2.2.2.2 1 2\r\n"),
    "v1-wrong-family": (LINE, b"TCP6 1.1.1.1 2.2.2.2 1 2\r\n"),
    "v2-tcp4": (FRAMED, b"\x21\x11" + V4),
    "v2-udp6": (FRAMED, b"\x21\x22" + V6),
    "v2-unix": (FRAMED, b"\x21\x31" + UNIX),
    "v2-unix-cut": (FRAMED, b"\x21\x32" + UNIX[:-1]),
    "v2-local": (FRAMED, b"\x20\0"),
    "v2-local-with-anything": (FRAMED, b"\x20\xff" + V4),
    "v2-unspecified": (FRAMED, b"\x21\0" + V4),
    "v2-unspecified-transport": (FRAMED, b"\x21\x10" + V4),
    "v2-bad-version": (FRAMED, b"\x11\x11" + V4),
    "v2-bad-command": (FRAMED, b"\x22\x11" + V4),
    "v2-bad-family": (FRAMED, b"\x21\x41" + V4),
    "v2-bad-transport": (FRAMED, b"\x21\x13" + V4),
    "v2-tlvs": (FRAMED, b"\x21\x11" + V4 + TLVS),
    "v2-tlv-cut": (FRAMED, b"\x21\x11" + V4 + TLVS[:-1]),
    "v2-tlv-head-cut": (FRAMED, b"\x21\x11" + V4 + b"\1\0"),
    "v2-long-id": (FRAMED, b"\x21\x11" + V4 + tlv(5, bytes(129))),
    "v2-ssl-cut": (FRAMED, b"\x21\x11" + V4 + tlv(0x20, SSL[:-1])),
    "v2-wrong-checksum": (FRAMED, b"\x21\x11" + V4 + tlv(3, b"\1\2\3\4")),
    "v2-checked": (CHECKED, b"\x21\x21" + V6 + TLVS),
    "v2-checked-bare": (CHECKED, b"\x21\x12" + V4),
    "v2-checked-twice": (CHECKED, b"\x21\x11" + V4 + tlv(3, bytes(4))),
}
PROXY_HEADER = {name: bytes([setup]) + rest for name, (setup, rest) in PROXY_HEADER.items()}

ALL_FILES = {"read_ops": READ_OPS, "write_ops": WRITE_OPS, "tls_bytes": TLS_BYTES, "proxy_header": PROXY_HEADER}
for target, files in ALL_FILES.items():
    folder = Path(__file__).parent / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
