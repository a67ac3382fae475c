"""Fields of the int64 array `g` that carries a problem and its blocking into the kernels.

One array instead of thirty arguments: a call unboxes one object, and every shape shares one compiled signature.
"""

from __future__ import annotations

from typing import Final

import numpy as np

NAMES: Final = (
    # Problem, as one of N * OD images with ICG = ICT * KD channels per group; M is the depthwise multiplier (OC / IC).
    *("N", "G", "IC", "OC", "ICG", "OCG", "M", "H", "W", "OH", "OW", "KH", "KW", "SH", "SW", "PT", "PL", "DH", "DW"),
    # Depth; ICT input channels per group; OUT_PLANE elements from output channel to output channel; padding mode.
    *("D", "OD", "KD", "SD", "PF", "DD", "ICT", "OUT_PLANE", "MODE"),
    # Output blocks of RB rows x CB columns (columns: runs of CB pixels); the TILES of a block are cut in PARTS tasks;
    # TILE_OUTER walks all pixels of one channel tile before the next.
    *("RB", "CB", "ROW_BLOCKS", "COLUMN_BLOCKS", "TILES", "PARTS", "PART_TILES", "TILE_OUTER"),
    # Strip: ROWS rows of pitch P in each of ROW_PHASES x COLUMN_PHASES planes; PLANE elements from channel to
    # channel (im2col in planes: from k to k). SPILL pixels after the last row are read, and zero.
    *("ROWS", "P", "SPILL", "ROW_PHASES", "COLUMN_PHASES", "PLANE"),
    # Passes over ICP channels each; PASS_TABLE holds PASS_FIELDS a pass; PANEL elements of one packed weight tile; STEP
    # elements from pixel to pixel of columns in pixels.
    *("ICP", "PASSES", "PASS_TABLE", "PANEL", "STEP"),
    # Byte offset of the C tiles in the scratch, and C tiles per output-channel tile. Transposed
    # block: byte offset, row pitch, address of the table of row offsets; input rows of a block, and its input columns
    # if it may have less than whole rows.
    *("C_AT", "C_TILES", "T_AT", "T_PITCH", "T_ROWS", "T_LINES", "T_COLUMNS"),
    # Separable: row pitch and byte offset of the buffer between the passes, address of a table of one 0.
    *("MIDDLE", "MIDDLE_AT", "ZERO"),
    # Tables of the depthwise microkernels: addresses of row and column offsets. EDGE > 0: blocks inside
    # the image are read in place but for strips of EDGE columns at both ends, which have row offsets of their own.
    *("ROW_OFFSETS", "COLUMN_OFFSETS", "EDGE", "EDGE_ROWS", "INNER_ROWS"),
    # Winograd: TH x TW tiles in an image; a block is TILE_RUN of them, up to SEGMENT of one row go together.
    # Elements from tile block to tile block and from 16 channels to the next of the transformed input, and from tile to
    # tile of output channels of the products; addresses of the tables of places in both; byte offsets of the strip and
    # of the outputs, which have rows of Y_PITCH pixels.
    *("TH", "TW", "TILE_RUN", "SEGMENT", "V_BLOCK", "V_CHUNK", "M_TILE", "V_PLACES", "M_PLACES"),
    # SOURCES: tables of the planes, rows and columns of the input that stand at padded positions; -1: zeros.
    *("STRIP_AT", "Y_AT", "Y_PITCH", "D_SOURCES", "H_SOURCES", "W_SOURCES"),
    # Planes turned to channels in lanes: addresses of the tables of places in the strip, and of rows of the result.
    *("PLACES", "PLANE_ROWS"),
    # Pixels in place: the output rows and columns that read inside the image only.
    *("TOP", "BOTTOM", "LEFT", "RIGHT"),
    # Matrix unit: products a term; address of its configuration; bytes of the strip from row to row of a tile register,
    # to the second half, to the low parts, from pixel to pixel; elements of the output from pixel to pixel and from row
    # to row of a block of sums.
    # PLAIN: rows of a strip are rows of the input. RUN: pixels of a strip have no room for whole steps of k.
    *("TERMS", "PLAIN", "RUN", "PALETTE", "TILE_ROW", "TILE_HALF", "LOW", "PIXEL", "OUT_PIXEL", "OUT_ROW"),
    # Weight gradient: a band is IMAGES images or a block of one; CHUNKS ranges of the BANDS have sums of their own, of
    # AREA elements a tile, that of the bias BIAS_AT elements behind; planes of PLANE elements in the strip of an image;
    # addresses of the tables of rows of a band and of rows of the sums, of zeros, and of ones.
    *("STRIP_PLANES", "IMAGES", "BANDS", "CHUNKS", "AREA", "NR", "LINES", "ROW_PLACES", "BIAS_AT", "ZEROS_AT", "ONES"),
    # The same on the matrix unit: steps of k of an image, bytes of its planes, byte offset of what is not yet split;
    # addresses of the steps of the row of ones, and of the places of the taps in a plane.
    *("STEPS", "IMAGE_BYTES", "TEMPORARY_AT", "ONES_STEPS", "TAPS_AT"),
    # Addresses: the clamp's (low, high), the activation's row function.
    *("LIMITS", "ACTIVATION"),
)

# fmt: off
(
    N, G, IC, OC, ICG, OCG, M, H, W, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW,
    D, OD, KD, SD, PF, DD, ICT, OUT_PLANE, MODE,
    RB, CB, ROW_BLOCKS, COLUMN_BLOCKS, TILES, PARTS, PART_TILES, TILE_OUTER,
    ROWS, P, SPILL, ROW_PHASES, COLUMN_PHASES, PLANE,
    ICP, PASSES, PASS_TABLE, PANEL, STEP,
    C_AT, C_TILES, T_AT, T_PITCH, T_ROWS, T_LINES, T_COLUMNS,
    MIDDLE, MIDDLE_AT, ZERO,
    ROW_OFFSETS, COLUMN_OFFSETS, EDGE, EDGE_ROWS, INNER_ROWS,
    TH, TW, TILE_RUN, SEGMENT, V_BLOCK, V_CHUNK, M_TILE, V_PLACES, M_PLACES, STRIP_AT, Y_AT, Y_PITCH,
    D_SOURCES, H_SOURCES, W_SOURCES,
    PLACES, PLANE_ROWS,
    TOP, BOTTOM, LEFT, RIGHT,
    TERMS, PLAIN, RUN, PALETTE, TILE_ROW, TILE_HALF, LOW, PIXEL, OUT_PIXEL, OUT_ROW,
    STRIP_PLANES, IMAGES, BANDS, CHUNKS, AREA, NR, LINES, ROW_PLACES, BIAS_AT, ZEROS_AT, ONES,
    STEPS, IMAGE_BYTES, TEMPORARY_AT, ONES_STEPS, TAPS_AT,
    LIMITS, ACTIVATION,
) = range(len(NAMES))
# fmt: on

# Values of MODE.
MODES: Final = ("zeros", "reflect", "replicate", "circular", "symmetric")
ZEROS, REFLECT, REPLICATE, CIRCULAR, SYMMETRIC = range(len(MODES))

# Segments, addresses of their table and of the table of vector offsets, offset in a weight tile, pixel step, address of
# the table of places in a transposed strip.
PASS_FIELDS: Final = ("SEGMENTS", "SEG", "BOFF", "PANEL", "STEP", "PLACES")
PASS_BYTES: Final = 8 * len(PASS_FIELDS)

# The addresses in the second array, `io`; ROW is the row factor of a separable kernel, FLAGS a byte for each block.
IO_NAMES: Final = ("X", "WEIGHT", "BIAS", "RESIDUAL", "OUT", "ROW", "FLAGS")
X, WEIGHT, BIAS, RESIDUAL, OUT, ROW, FLAGS = range(len(IO_NAMES))


def pack(values: dict[str, int]) -> np.ndarray:
    """Return the int64 array for named values; fields that a kernel does not use are 0."""
    unknown = set(values) - set(NAMES)
    if unknown:
        raise KeyError(f"unknown fields {sorted(unknown)}")
    return np.array([values.get(name, 0) for name in NAMES], np.int64)
