"""The text messages at the front of a WebSocket's bytes, cut out and unmasked without a parser.

Twilio sends nothing but whole text messages, 50 a second for each call. A parser that is ready
for everything takes 4.3 µs for one, this takes 0.7: two looks at the header, one slice, and the
unmasking in C. Whatever is not a whole, masked, unfragmented text message stops it, and goes to
the parser (`media_socket`), which knows all rules. Pure.

Source: RFC 6455, 5.2.
"""

from __future__ import annotations

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the compiled part
    from websockets.utils import apply_mask

_WHOLE_TEXT = 0x81  # FIN, no reserved bits, opcode 1
_MASKED = 0x80
_TWO_BYTES, _EIGHT_BYTES = _MASKED | 126, _MASKED | 127  # of length follow
_CONTROL = (0x88, 0x89, 0x8A)  # whole close, ping, pong
_CONTROL_HEADER = 6  # their length fits the second byte; 4 bytes of mask


def whole_texts(data: bytes, most: int) -> tuple[list[bytes], int]:
    """The messages at the front, of up to `most` bytes each, and where what follows them begins."""
    texts: list[bytes] = []
    at = 0
    size = len(data)
    while size - at >= _CONTROL_HEADER and data[at] == _WHOLE_TEXT:
        length = data[at + 1]
        begin = at + 6
        if length == _TWO_BYTES:
            if size - at < 8:
                break
            length = data[at + 2] << 8 | data[at + 3]
            begin = at + 8
        elif length < _MASKED or length == _EIGHT_BYTES:
            break
        else:
            length -= _MASKED
        end = begin + length
        if end > size or length > most:
            break
        texts.append(apply_mask(data[begin:end], data[begin - 4 : begin]))
        at = end
    return texts, at


def next_frame(data: bytes, most: int) -> int | None:
    """Where the first frame ends, if it is a text as above or a control frame; else None.

    It may end beyond the data: then it is not whole yet. What cannot be told yet ends there too.
    """
    head = data[:4]
    if len(head) < 2:
        return _CONTROL_HEADER
    length = head[1] - _MASKED
    if 0 <= length < 126 and head[0] in (_WHOLE_TEXT, *_CONTROL):
        return _CONTROL_HEADER + length
    if head[0] == _WHOLE_TEXT and head[1] == _TWO_BYTES:
        if len(head) < 4:
            return 8
        length = head[2] << 8 | head[3]
        return 8 + length if length <= most else None
    return None
