"""What the tests of pictures share."""

from __future__ import annotations

import struct


def assert_all_text_is_inside(figure):
    """Fail if a label, a tick's number or a title is cut at the edge of the figure."""
    figure.canvas.draw()
    W, H = figure.canvas.get_width_height()
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert min(box.x0, box.y0) >= 0, (axes.get_title("left"), box)
        assert box.x1 <= W, (axes.get_title("left"), box)
        assert box.y1 <= H, (axes.get_title("left"), box)


def png_size(path):
    """Return width and height of a PNG, read from its header."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:])
