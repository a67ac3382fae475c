"""Fields of the int64 array `g` that carries windows over two axes, and their blocking, into the kernel."""

from __future__ import annotations

# Of each axis: KIND, one of those below; PHASES of STRIDE, each with FULL positions in MAP, which says which input is
# there (-1: none), and REACH positions more than outputs in a block; STAGES rows of TABLE; or LIST, LIST_FIELDS an
# output, and TAPS, the offsets of a whole window.
_AXIS = ("KIND", "PHASES", "STRIDE", "BEFORE", "FULL", "REACH", "MAP", "TABLE", "STAGES", "LIST", "TAPS")
NAMES = (
    *("L", "H", "W", "OH", "OW", "RB", "CB", "ROW_BLOCKS", "COLUMN_BLOCKS"),
    *(f"W_{name}" for name in _AXIS),
    *(f"H_{name}" for name in _AXIS),
    # H_WHOLE: rows are results; H_DIRECT: rows of the input are combined where they are; H_FIRST: and that before W.
    *("H_WHOLE", "H_DIRECT", "H_FIRST"),
    # Dilation along W; sliding: the outputs from INNER on and before INNER_END have whole windows.
    *("DW", "INNER", "INNER_END"),
    # Elements of a row in scratch, and from stride phase to stride phase of the copied row; byte offset of the rows;
    # bytes from values to indices; byte offset of a row of indices; address of the indices of a row.
    *("PITCH", "AREA", "ROWS_AT", "INDEX_AT", "LAST_AT", "COLUMNS"),
    # Indices are int64; divisors: step from element to element (-1: none) and addresses along W and H; fill values of
    # the input and of a row that is reduced along W; what a row adds to indices.
    *("WIDE", "DIVIDE", "DIVISORS_W", "DIVISORS_H", "FILL", "ROW_ELEMENTS"),
    # Elements from plane to plane of the result.
    "OUT_PLANE",
)
# fmt: off
(
    L, H, W, OH, OW, RB, CB, ROW_BLOCKS, COLUMN_BLOCKS,
    W_KIND, W_PHASES, W_STRIDE, W_BEFORE, W_FULL, W_REACH, W_MAP, W_TABLE, W_STAGES, W_LIST, W_TAPS,
    H_KIND, H_PHASES, H_STRIDE, H_BEFORE, H_FULL, H_REACH, H_MAP, H_TABLE, H_STAGES, H_LIST, H_TAPS,
    H_WHOLE, H_DIRECT, H_FIRST,
    DW, INNER, INNER_END,
    PITCH, AREA, ROWS_AT, INDEX_AT, LAST_AT, COLUMNS,
    WIDE, DIVIDE, DIVISORS_W, DIVISORS_H, FILL, ROW_ELEMENTS,
    OUT_PLANE,
) = range(len(NAMES))
# fmt: on

LISTED, STAGED, SLIDING = range(3)

# A row of TABLE: destination, address of the taps, taps, outputs more than of the last stage, and after how many inputs
# more than outputs it can run.
STAGE_FIELDS = 5

# Of each output: the first input and the number of inputs; the first one that an output from this one on sees, and the
# end of those that an output up to this one sees; the address of the inputs' offsets from the first.
LIST_FIELDS = 5

# The addresses in `io`; INDEX: indices of the input's elements, or 0.
X, INDEX, OUT, INDEX_OUT = range(4)
