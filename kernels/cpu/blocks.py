"""Products of rows in blocks of four by four: each number that is read takes part in four products."""

from typing import Any

from eigenfeatures.kernels.cpu.compile import helper, reduction


@reduction
def sixteen_products(a0: Any, a1: Any, a2: Any, a3: Any, b0: Any, b1: Any, b2: Any, b3: Any) -> Any:
    """Return the inner products of four rows with four others, one row of results after the other."""
    zero = a0.dtype.type(0)
    s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = zero
    s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = zero
    for j in range(a0.size):
        p0, p1, p2, p3 = a0[j], a1[j], a2[j], a3[j]
        q0, q1, q2, q3 = b0[j], b1[j], b2[j], b3[j]
        s00 += p0 * q0
        s01 += p0 * q1
        s02 += p0 * q2
        s03 += p0 * q3
        s10 += p1 * q0
        s11 += p1 * q1
        s12 += p1 * q2
        s13 += p1 * q3
        s20 += p2 * q0
        s21 += p2 * q1
        s22 += p2 * q2
        s23 += p2 * q3
        s30 += p3 * q0
        s31 += p3 * q1
        s32 += p3 * q2
        s33 += p3 * q3
    return s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33


@helper
def four_rows(x: Any, i: int, first: int, size: int) -> Any:
    """Return columns `first` to `first + size` of rows i to i + 3, the last row in place of missing ones."""
    last, stop = len(x) - 1, first + size
    return (
        x[min(i, last), first:stop],
        x[min(i + 1, last), first:stop],
        x[min(i + 2, last), first:stop],
        x[min(i + 3, last), first:stop],
    )


@helper
def add_products(a: Any, i: int, b: Any, k: int, first: int, size: int, out: Any) -> None:
    """Add to `out` (rows of a, rows of b) the products of up to four rows from i and four from k."""
    a0, a1, a2, a3 = four_rows(a, i, first, size)
    b0, b1, b2, b3 = four_rows(b, k, first, size)
    products = sixteen_products(a0, a1, a2, a3, b0, b1, b2, b3)
    for p in range(min(4, len(a) - i)):
        for q in range(min(4, len(b) - k)):
            out[i + p, k + q] += products[4 * p + q]


@reduction
def combine_four(x: Any, first: int, weights: Any, i: int, out: Any) -> None:
    """Fill `out` (4, T) with Σ_c weights[i + q, c] · x[c, first : first + T], four rows at a time.

    The last row of `weights` stands for missing ones.
    """
    size, last = out.shape[1], len(weights) - 1
    w0, w1, w2, w3 = (
        weights[i],
        weights[min(i + 1, last)],
        weights[min(i + 2, last)],
        weights[min(i + 3, last)],
    )
    out0, out1, out2, out3 = out[0], out[1], out[2], out[3]
    out[:] = 0
    fours = len(x) // 4 * 4
    for c in range(0, fours, 4):
        r0, r1, r2, r3 = four_rows(x, c, first, size)
        a0, a1, a2, a3 = w0[c], w0[c + 1], w0[c + 2], w0[c + 3]
        b0, b1, b2, b3 = w1[c], w1[c + 1], w1[c + 2], w1[c + 3]
        c0, c1, c2, c3 = w2[c], w2[c + 1], w2[c + 2], w2[c + 3]
        d0, d1, d2, d3 = w3[c], w3[c + 1], w3[c + 2], w3[c + 3]
        for j in range(size):
            p, q, r, s = r0[j], r1[j], r2[j], r3[j]
            out0[j] += (a0 * p + a1 * q) + (a2 * r + a3 * s)
            out1[j] += (b0 * p + b1 * q) + (b2 * r + b3 * s)
            out2[j] += (c0 * p + c1 * q) + (c2 * r + c3 * s)
            out3[j] += (d0 * p + d1 * q) + (d2 * r + d3 * s)
    for c in range(fours, len(x)):
        row = x[c, first : first + size]
        for j in range(size):
            out0[j] += w0[c] * row[j]
            out1[j] += w1[c] * row[j]
            out2[j] += w2[c] * row[j]
            out3[j] += w3[c] * row[j]
