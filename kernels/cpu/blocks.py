"""Products of rows in blocks of four by four: each number that is read takes part in four products."""

from typing import Any

from eigenfeatures.kernels.cpu.compile import helper, reduction


@reduction
def sixteen_products(a: Any, i: int, b: Any, k: int, first: int, size: int) -> Any:
    """Return the inner products of rows i to i + 3 of `a` with rows k to k + 3 of `b`, row by row.

    They are those of columns `first` to `first + size`; the last row stands for missing ones. Rows are
    sliced here and not handed over: Numba would count every reference to them, for all threads in one place.
    """
    last_a, last_b, stop = len(a) - 1, len(b) - 1, first + size
    a0, a1 = a[i, first:stop], a[min(i + 1, last_a), first:stop]
    a2, a3 = a[min(i + 2, last_a), first:stop], a[min(i + 3, last_a), first:stop]
    b0, b1 = b[k, first:stop], b[min(k + 1, last_b), first:stop]
    b2, b3 = b[min(k + 2, last_b), first:stop], b[min(k + 3, last_b), first:stop]
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
def add_products(a: Any, i: int, b: Any, k: int, first: int, size: int, out: Any) -> None:
    """Add to `out` (rows of a, rows of b) the products of up to four rows from i and four from k."""
    products = sixteen_products(a, i, b, k, first, size)
    if i + 4 <= len(a) and k + 4 <= len(b):
        # Written out: a place in a tuple that a loop computes is looked up by a jump.
        p0, p1, p2, p3, q0, q1, q2, q3, r0, r1, r2, r3, s0, s1, s2, s3 = products
        add_four(out[i], k, p0, p1, p2, p3)
        add_four(out[i + 1], k, q0, q1, q2, q3)
        add_four(out[i + 2], k, r0, r1, r2, r3)
        add_four(out[i + 3], k, s0, s1, s2, s3)
        return
    for p in range(min(4, len(a) - i)):
        for q in range(min(4, len(b) - k)):
            out[i + p, k + q] += products[4 * p + q]


@helper
def add_four(row: Any, k: int, p: Any, q: Any, r: Any, s: Any) -> None:
    """Add four numbers to a row from column k on."""
    row[k] += p
    row[k + 1] += q
    row[k + 2] += r
    row[k + 3] += s


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
