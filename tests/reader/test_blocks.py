# ruff: noqa: E501, E731  the lines of a text are as long as they are; the terms are short functions
"""CUDA texts read back to their terms, which are written here by hand; what the reader does not look at; the headers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from moaproof.errors import CertificateInvalid, IllFormed
from moaproof.reader import Reading, is_onf, read_kernel, require_onf
from moaproof.reader.blocks import IMPORTS, Launch
from moaproof.shapes import gamma
from moaproof.term import (
    TRUE,
    Add,
    And,
    Build,
    F,
    Flat,
    Fold,
    In,
    Int,
    Let,
    Lt,
    Min,
    Mul,
    Psi,
    Real,
    Size,
    Sub,
    Term,
    Tiles,
    Var,
    Where,
)  # fmt: skip

CORE = "0123456789abcdef" * 4
HEAD = f'"""By hand.\n\ncore: {CORE}\n"""\n\n{IMPORTS["float64"]}\n\n\n'

# --- texts --------------------------------------------------------------------------------------------------

CAUSAL = """\
@launch(grid=("b*h*bq", 1, 1), block=("tx", "ty", 1), constants=("dk", "ri", "ty", "rc", "tx", "rj"), index="int64", makes=())
def kernel(out, q, k, v, scale, b, h, n, m, dv, bq, bk):
    pool = cuda.shared.array(0, real)
    p1 = dk * (ri * ty + 1)
    x5 = view(pool, 0, p1, (dk, ri * ty + 1))
    p2 = p1 + dk * (rj * tx + 1)
    x20 = view(pool, p1, p2, (dk, rj * tx + 1))
    p3 = p2 + rj * tx * (rc * tx + 1)
    x23 = view(pool, p2, p3, (rj * tx, rc * tx + 1))
    p4 = p3 + rj * tx * (ri * ty + 1)
    x36 = view(pool, p3, p4, (rj * tx, ri * ty + 1))
    p5 = p4 + rj * tx * (ri * ty + 1)
    x47 = view(pool, p4, p5, (rj * tx, ri * ty + 1))
    m8 = cuda.local.array(ri, real)
    l9 = cuda.local.array(ri, real)
    o10 = cuda.local.array((ri, rc), real)
    s26 = cuda.local.array((ri, rj), real)
    m41 = cuda.local.array(ri, real)
    s52 = cuda.local.array((ri, rc), real)
    x62 = cuda.local.array((ri, rc), real)
    s67 = cuda.local.array(ri, real)
    a73 = cuda.local.array(ri, real)
    b74 = cuda.local.array(ri, real)
    x = cuda.threadIdx.x
    y = cuda.threadIdx.y
    w1 = cuda.blockIdx.x
    i2 = w1 // (h * bq)
    i3 = w1 // bq % h
    i4 = w1 % bq
    for r7 in span(y, ri * ty, ty):
        for c6 in span(x, dk, tx):
            x5[c6, r7] = (q[((i2 * h + i3) * n + (i4 * (ri * ty) + r7)) * dk + c6] if i4 * (ri * ty) + r7 < n else ZERO)
    for e11 in span(ri):
        r12 = e11 * ty + y
        m8[e11] = LOWEST
    for e13 in span(ri):
        r14 = e13 * ty + y
        l9[e13] = ZERO
    for e15 in span(ri):
        r16 = e15 * ty + y
        for e17 in span(rc):
            c18 = e17 * tx + x
            o10[e15, e17] = ZERO
    for k19 in span(bk):
        if k19 * (rj * tx) < i4 * (ri * ty) + ri * ty:
            for c22 in span(y, rj * tx, ty):
                for c21 in span(x, dk, tx):
                    x20[c21, c22] = (k[((i2 * h + i3) * m + (k19 * (rj * tx) + c22)) * dk + c21] if c22 < min(rj * tx, m - k19 * (rj * tx)) else ZERO)
            for c24 in span(y, rj * tx, ty):
                for c25 in span(x, rc * tx, tx):
                    x23[c24, c25] = (v[((i2 * h + i3) * m + (k19 * (rj * tx) + c24)) * dv + c25] if c24 < min(rj * tx, m - k19 * (rj * tx)) and c25 < dv else ZERO)
            for e27 in span(ri):
                r28 = e27 * ty + y
                for e29 in span(rj):
                    c30 = e29 * tx + x
                    s26[e27, e29] = ZERO
            cuda.syncthreads()
            for k31 in span(dk):
                for e32 in span(ri):
                    r33 = e32 * ty + y
                    for e34 in span(rj):
                        c35 = e34 * tx + x
                        s26[e32, e34] = s26[e32, e34] + x5[k31, r33] * x20[k31, c35]
            for e37 in span(ri):
                r38 = e37 * ty + y
                for e39 in span(rj):
                    c40 = e39 * tx + x
                    x36[c40, r38] = s26[e37, e39] * scale
            for e42 in span(ri):
                r43 = e42 * ty + y
                m41[e42] = LOWEST
            cuda.syncthreads()
            for k44 in span(min(rj * tx, m - k19 * (rj * tx))):
                for e45 in span(ri):
                    r46 = e45 * ty + y
                    if k19 * (rj * tx) + k44 < i4 * (ri * ty) + r46 + 1:
                        m41[e45] = fmax(m41[e45], x36[k44, r46])
            for e48 in span(ri):
                r49 = e48 * ty + y
                for e50 in span(rj):
                    c51 = e50 * tx + x
                    x47[c51, r49] = (exp(x36[c51, r49] - m41[e48]) if c51 < min(rj * tx, m - k19 * (rj * tx)) and k19 * (rj * tx) + c51 < i4 * (ri * ty) + r49 + 1 else ZERO)
            for e53 in span(ri):
                r54 = e53 * ty + y
                for e55 in span(rc):
                    c56 = e55 * tx + x
                    s52[e53, e55] = ZERO
            cuda.syncthreads()
            for k57 in span(min(rj * tx, m - k19 * (rj * tx))):
                for e58 in span(ri):
                    r59 = e58 * ty + y
                    for e60 in span(rc):
                        c61 = e60 * tx + x
                        if k19 * (rj * tx) + k57 < i4 * (ri * ty) + r59 + 1:
                            s52[e58, e60] = s52[e58, e60] + x47[k57, r59] * x23[k57, c61]
            for e63 in span(ri):
                r64 = e63 * ty + y
                for e65 in span(rc):
                    c66 = e65 * tx + x
                    x62[e63, e65] = s52[e63, e65]
            for e68 in span(ri):
                r69 = e68 * ty + y
                s67[e68] = ZERO
            for k70 in span(min(rj * tx, m - k19 * (rj * tx))):
                for e71 in span(ri):
                    r72 = e71 * ty + y
                    if k19 * (rj * tx) + k70 < i4 * (ri * ty) + r72 + 1:
                        s67[e71] = s67[e71] + x47[k70, r72]
            for e77 in span(ri):
                r78 = e77 * ty + y
                e75 = m41[e77]
                t76 = fmax(m8[e77], e75)
                a73[e77] = rescale(m8[e77], t76)
                b74[e77] = rescale(e75, t76)
                m8[e77] = t76
                l9[e77] = l9[e77] * a73[e77] + s67[e77] * b74[e77]
            for e79 in span(ri):
                r80 = e79 * ty + y
                for e81 in span(rc):
                    c82 = e81 * tx + x
                    o10[e79, e81] = o10[e79, e81] * a73[e79] + x62[e79, e81] * b74[e79]
            cuda.syncthreads()
    for e83 in span(ri):
        r84 = e83 * ty + y
        for e85 in span(rc):
            c86 = e85 * tx + x
            if r84 < min(ri * ty, n - i4 * (ri * ty)) and c86 < dv:
                out[((i2 * h + i3) * n + (i4 * (ri * ty) + r84)) * dv + c86] = quotient(o10[e83, e85], l9[e83])
"""

SPLIT = """\
@launch(grid=("bp*b*h*bq", 1, 1), block=("tx", "ty", 1), constants=("dk", "ri", "ty", "rc", "tx", "rj"), index="int64", makes=(("m84", "bp", "b", "h", "n"), ("l85", "bp", "b", "h", "n"), ("o86", "bp", "b", "h", "n", "rc*tx"),))
def partial87(m84, l85, o86, q, k, v, scale, b, h, n, m, dv, bq, bp, bk):
    pool = cuda.shared.array(0, real)
    p1 = dk * (ri * ty + 1)
    x6 = view(pool, 0, p1, (dk, ri * ty + 1))
    p2 = p1 + dk * (rj * tx + 1)
    x21 = view(pool, p1, p2, (dk, rj * tx + 1))
    p3 = p2 + rj * tx * (rc * tx + 1)
    x24 = view(pool, p2, p3, (rj * tx, rc * tx + 1))
    p4 = p3 + rj * tx * (ri * ty + 1)
    x37 = view(pool, p3, p4, (rj * tx, ri * ty + 1))
    p5 = p4 + rj * tx * (ri * ty + 1)
    x48 = view(pool, p4, p5, (rj * tx, ri * ty + 1))
    m9 = cuda.local.array(ri, real)
    l10 = cuda.local.array(ri, real)
    o11 = cuda.local.array((ri, rc), real)
    s27 = cuda.local.array((ri, rj), real)
    m42 = cuda.local.array(ri, real)
    s53 = cuda.local.array((ri, rc), real)
    x63 = cuda.local.array((ri, rc), real)
    s68 = cuda.local.array(ri, real)
    a74 = cuda.local.array(ri, real)
    b75 = cuda.local.array(ri, real)
    x = cuda.threadIdx.x
    y = cuda.threadIdx.y
    w1 = cuda.blockIdx.x
    i2 = w1 // (b * h * bq)
    i3 = w1 // (h * bq) % b
    i4 = w1 // bq % h
    i5 = w1 % bq
    for r8 in span(y, ri * ty, ty):
        for c7 in span(x, dk, tx):
            x6[c7, r8] = (q[((i3 * h + i4) * n + (i5 * (ri * ty) + r8)) * dk + c7] if i5 * (ri * ty) + r8 < n else ZERO)
    for e12 in span(ri):
        r13 = e12 * ty + y
        m9[e12] = LOWEST
    for e14 in span(ri):
        r15 = e14 * ty + y
        l10[e14] = ZERO
    for e16 in span(ri):
        r17 = e16 * ty + y
        for e18 in span(rc):
            c19 = e18 * tx + x
            o11[e16, e18] = ZERO
    for k20 in span(bk):
        if k20 * (rj * tx) < min(bk * rj * tx, m - i2 * (bk * rj * tx)):
            for c23 in span(y, rj * tx, ty):
                for c22 in span(x, dk, tx):
                    x21[c22, c23] = (k[((i3 * h + i4) * m + (i2 * (bk * rj * tx) + (k20 * (rj * tx) + c23))) * dk + c22] if c23 < min(rj * tx, min(bk * rj * tx, m - i2 * (bk * rj * tx)) - k20 * (rj * tx)) else ZERO)
            for c25 in span(y, rj * tx, ty):
                for c26 in span(x, rc * tx, tx):
                    x24[c25, c26] = (v[((i3 * h + i4) * m + (i2 * (bk * rj * tx) + (k20 * (rj * tx) + c25))) * dv + c26] if c25 < min(rj * tx, min(bk * rj * tx, m - i2 * (bk * rj * tx)) - k20 * (rj * tx)) and c26 < dv else ZERO)
            for e28 in span(ri):
                r29 = e28 * ty + y
                for e30 in span(rj):
                    c31 = e30 * tx + x
                    s27[e28, e30] = ZERO
            cuda.syncthreads()
            for k32 in span(dk):
                for e33 in span(ri):
                    r34 = e33 * ty + y
                    for e35 in span(rj):
                        c36 = e35 * tx + x
                        s27[e33, e35] = s27[e33, e35] + x6[k32, r34] * x21[k32, c36]
            for e38 in span(ri):
                r39 = e38 * ty + y
                for e40 in span(rj):
                    c41 = e40 * tx + x
                    x37[c41, r39] = s27[e38, e40] * scale
            for e43 in span(ri):
                r44 = e43 * ty + y
                m42[e43] = LOWEST
            cuda.syncthreads()
            for k45 in span(min(rj * tx, min(bk * rj * tx, m - i2 * (bk * rj * tx)) - k20 * (rj * tx))):
                for e46 in span(ri):
                    r47 = e46 * ty + y
                    m42[e46] = fmax(m42[e46], x37[k45, r47])
            for e49 in span(ri):
                r50 = e49 * ty + y
                for e51 in span(rj):
                    c52 = e51 * tx + x
                    x48[c52, r50] = (exp(x37[c52, r50] - m42[e49]) if c52 < min(rj * tx, min(bk * rj * tx, m - i2 * (bk * rj * tx)) - k20 * (rj * tx)) else ZERO)
            for e54 in span(ri):
                r55 = e54 * ty + y
                for e56 in span(rc):
                    c57 = e56 * tx + x
                    s53[e54, e56] = ZERO
            cuda.syncthreads()
            for k58 in span(min(rj * tx, min(bk * rj * tx, m - i2 * (bk * rj * tx)) - k20 * (rj * tx))):
                for e59 in span(ri):
                    r60 = e59 * ty + y
                    for e61 in span(rc):
                        c62 = e61 * tx + x
                        s53[e59, e61] = s53[e59, e61] + x48[k58, r60] * x24[k58, c62]
            for e64 in span(ri):
                r65 = e64 * ty + y
                for e66 in span(rc):
                    c67 = e66 * tx + x
                    x63[e64, e66] = s53[e64, e66]
            for e69 in span(ri):
                r70 = e69 * ty + y
                s68[e69] = ZERO
            for k71 in span(min(rj * tx, min(bk * rj * tx, m - i2 * (bk * rj * tx)) - k20 * (rj * tx))):
                for e72 in span(ri):
                    r73 = e72 * ty + y
                    s68[e72] = s68[e72] + x48[k71, r73]
            for e78 in span(ri):
                r79 = e78 * ty + y
                e76 = m42[e78]
                t77 = fmax(m9[e78], e76)
                a74[e78] = rescale(m9[e78], t77)
                b75[e78] = rescale(e76, t77)
                m9[e78] = t77
                l10[e78] = l10[e78] * a74[e78] + s68[e78] * b75[e78]
            for e80 in span(ri):
                r81 = e80 * ty + y
                for e82 in span(rc):
                    c83 = e82 * tx + x
                    o11[e80, e82] = o11[e80, e82] * a74[e80] + x63[e80, e82] * b75[e80]
            cuda.syncthreads()
    for e88 in span(ri):
        r89 = e88 * ty + y
        if r89 < min(ri * ty, n - i5 * (ri * ty)) and x < 1:
            m84[((i2 * b + i3) * h + i4) * n + (i5 * (ri * ty) + r89)] = m9[e88]
    for e90 in span(ri):
        r91 = e90 * ty + y
        if r91 < min(ri * ty, n - i5 * (ri * ty)) and x < 1:
            l85[((i2 * b + i3) * h + i4) * n + (i5 * (ri * ty) + r91)] = l10[e90]
    for e92 in span(ri):
        r93 = e92 * ty + y
        for e94 in span(rc):
            c95 = e94 * tx + x
            if r93 < min(ri * ty, n - i5 * (ri * ty)):
                o86[(((i2 * b + i3) * h + i4) * n + (i5 * (ri * ty) + r93)) * (rc * tx) + c95] = o11[e92, e94]


@launch(grid=("b*h*n", 1, 1), block=("tx", 1, 1), constants=("tx",), index="int64", makes=())
def kernel(out, m84, l85, o86, q, k, v, scale, b, h, n, dk, m, dv, bq, ri, ty, rc, bp, bk, rj):
    x = cuda.threadIdx.x
    w96 = cuda.blockIdx.x
    i97 = w96 // (h * n)
    i98 = w96 // n % h
    i99 = w96 % n
    for c100 in span(x, dv, tx):
        m101 = LOWEST
        l102 = ZERO
        o103 = ZERO
        for k104 in span(bp):
            e107 = m84[((k104 * b + i97) * h + i98) * n + i99]
            t108 = fmax(m101, e107)
            a105 = rescale(m101, t108)
            b106 = rescale(e107, t108)
            m101 = t108
            l102 = l102 * a105 + l85[((k104 * b + i97) * h + i98) * n + i99] * b106
            o103 = o103 * a105 + o86[(((k104 * b + i97) * h + i98) * n + i99) * (rc * tx) + c100] * b106
        out[((i97 * h + i98) * n + i99) * dv + c100] = quotient(o103, l102)
"""

# Rows of a mask's sums, in registers alone but for the rows of x: m and p are scalars, a and t arrays of each row.
SMALL = """\
@launch(grid=("bq", 1, 1), block=("tx", "ty", 1), constants=("dk", "ri", "ty", "rc", "tx"), index="int64", makes=())
def kernel(out, x, w, seen, n, dv, bq):
    pool = cuda.shared.array(0, real)
    p1 = dk * (ri * ty + 1)
    s1 = view(pool, 0, p1, (dk, ri * ty + 1))
    p2 = p1 + rc * tx * (ri * ty + 1)
    t1 = view(pool, p1, p2, (rc * tx, ri * ty + 1))
    m1 = cuda.local.array(ri, real)
    p3 = cuda.local.array(ri, real)
    g1 = cuda.local.array(ri, real)
    a1 = cuda.local.array((ri, rc), real)
    a2 = cuda.local.array((ri, rc), real)
    tid = cuda.threadIdx.x
    row = cuda.threadIdx.y
    i = cuda.blockIdx.x
    for r1 in span(row, ri * ty, ty):
        for c1 in span(tid, dk, tx):
            s1[c1, r1] = (x[(i * (ri * ty) + r1) * dk + c1] if i * (ri * ty) + r1 < n else real(-3 / 4))
    cuda.syncthreads()
    for e2 in span(ri):
        r2 = e2 * ty + row
        m1[e2] = LOWEST
    for k3 in span(dk):
        for e3 in span(ri):
            r3 = e3 * ty + row
            if not (k3 < 1) and seen[k3]:
                m1[e3] = fmax(m1[e3], s1[k3, r3])
    for e4 in span(ri):
        r4 = e4 * ty + row
        p3[e4] = ONE
    for k5 in span(min(dk, i + 1)):
        if seen[k5]:
            for e5 in span(ri):
                r5 = e5 * ty + row
                p3[e5] = p3[e5] * (m1[e5] - s1[k5, r5])
    for e6 in span(ri):
        r6 = e6 * ty + row
        g1[e6] = sqrt(p3[e6]) + real(r6)
    for e7 in span(ri):
        r7 = e7 * ty + row
        for f7 in span(rc):
            c7 = f7 * tx + tid
            a1[e7, f7] = ZERO
    for k8 in span(dk):
        for e8 in span(ri):
            r8 = e8 * ty + row
            for f8 in span(rc):
                c8 = f8 * tx + tid
                if c8 < k8:
                    a1[e8, f8] = a1[e8, f8] + s1[k8, r8] * w[c8]
    for e9 in span(ri):
        r9 = e9 * ty + row
        for f9 in span(rc):
            c9 = f9 * tx + tid
            a2[e9, f9] = a1[e9, f9] / g1[e9]
    for e10 in span(ri):
        r10 = e10 * ty + row
        for f10 in span(rc):
            c10 = f10 * tx + tid
            t1[c10, r10] = -a2[e10, f10]
    cuda.syncthreads()
    for e11 in span(ri):
        r11 = e11 * ty + row
        for f11 in span(rc):
            c11 = f11 * tx + tid
            if r11 < min(ri * ty, n - i * (ri * ty)) and c11 < dv:
                out[(i * (ri * ty) + r11) * dv + c11] = t1[c11, r11] * a2[e11, f11] - t1[0, r11]
"""

# A column of a thread, in plain scalars.
COLUMN = """\
@launch(grid=("n", 1, 1), block=("tx", 1, 1), constants=("tx",), index="int64", makes=())
def kernel(out, x, w, seen, n, dk, dv, bq, ri, ty, rc):
    t = cuda.threadIdx.x
    i = cuda.blockIdx.x
    for c in span(t, dv, tx):
        s = ZERO
        for k in span(dk):
            if seen[k]:
                s = s + x[i * dk + k] * w[c]
        q = exp(s)
        out[i * dv + c] = q * s
"""

# Two states of a column, written out.
STATES = """\
@launch(grid=("n", 1, 1), block=("tx", 1, 1), constants=("tx",), index="int64", makes=())
def kernel(out, x, w, seen, n, dk, dv, bq, ri, ty, rc):
    t = cuda.threadIdx.x
    i = cuda.blockIdx.x
    for c in span(t, dv, tx):
        m1 = LOWEST
        l1 = ZERO
        o1 = ZERO
        for k1 in span(dk):
            if seen[k1]:
                p1 = x[i * dk + k1] * w[c]
                d1 = p1
                t1 = fmax(m1, d1)
                a1 = rescale(m1, t1)
                b1 = rescale(d1, t1)
                m1 = t1
                l1 = l1 * a1 + ONE * b1
                o1 = o1 * a1 + x[i * dk + k1] * b1
        m2 = LOWEST
        l2 = ZERO
        o2 = ZERO
        for j2 in span(min(dk, i + 1)):
            d2 = x[i * dk + j2]
            t2 = fmax(m2, d2)
            a2 = rescale(m2, t2)
            b2 = rescale(d2, t2)
            m2 = t2
            l2 = l2 * a2 + ONE * b2
            o2 = o2 * a2 + quotient(o1, l1) * b2
        out[i * dv + c] = quotient(o1, l1) - quotient(o2, l2)
"""


# --- terms, with names for variables -------------------------------------------------------------------------

Body = Callable[[], Term]


class Names:
    """``v`` is the variable of a name; the functions that take a body bind one."""

    def __init__(self) -> None:
        self.open: list[str] = []

    def v(self, name: str) -> Term:
        return Var(self.open[::-1].index(name))

    def under(self, name: str, body: Body) -> Term:
        self.open.append(name)
        try:
            return body()
        finally:
            self.open.pop()

    def build(self, name: str, extent: Term, body: Body, axis: str = "seq") -> Term:
        return Build(extent, self.under(name, body), axis)

    def fold(self, monoid: str, name: str, extent: Term, body: Body, guard: Body = lambda: TRUE) -> Term:
        return Fold(monoid, extent, self.under(name, body), self.under(name, guard))

    def let(self, name: str, value: Term, body: Body) -> Term:
        return Let(value, self.under(name, body))

    def tile(self, body: Body) -> Term:
        """Tiles I < bq of ri*ty rows over n, with rows r on the threads."""
        rows = lambda: self.build("r", Min(T, Sub(n, Mul(self.v("I"), T))), body, "thread")
        return Tiles(n, Size("bq"), T, self.under("I", rows), "grid")


b, h, n, m, dk, dv, bk, bp = (Size(x) for x in ("b", "h", "n", "m", "dk", "dv", "bk", "bp"))
T, KEYS, COLUMNS = Mul(Size("ri"), Size("ty")), Mul(Size("rj"), Size("tx")), Mul(Size("rc"), Size("tx"))
CHUNK = Mul(Mul(bk, Size("rj")), Size("tx"))
Q, K, V = In("q", b, h, n, dk), In("k", b, h, m, dk), In("v", b, h, m, dv)
SCALE = In("scale")
X, W, SEEN = In("x", n, dk), In("w", COLUMNS), In("seen", dk, sort="bool")


def flat(array: Term, *index: Term) -> Term:
    return Flat(array, gamma(index, array.args))


def quotient(w: Term) -> Term:
    return Term("quotient", None, (w,))


def row_program(x: Names, start: Body | None, count: Body, causal: bool, skipped: Body, last: Body) -> Term:
    """The state of row r over tiles J < bk of keys, and what follows.

    ``start`` is where the keys of the tiles start, if not at 0; ``count`` how many a tile has; ``skipped`` its guard.
    """
    row = lambda: Add(Mul(x.v("I"), T), x.v("r"))
    here = lambda: Lt(x.v("u"), count())
    tiled = lambda: Add(Mul(x.v("J"), KEYS), x.v("u"))
    key = lambda: Add(start(), tiled()) if start else tiled()
    seen = (lambda: Lt(key(), Add(row(), Int(1)))) if causal else (lambda: TRUE)
    at = lambda *names: [x.v("x"), x.v("y"), key(), *map(x.v, names)]
    both = lambda g: And(here(), g) if causal else here()
    query = lambda: Where(Lt(row(), n), flat(Q, x.v("x"), x.v("y"), row(), x.v("j")), Real(0))
    k = lambda: Where(here(), flat(K, *at("j")), Real(0))
    v = lambda: Where(And(here(), Lt(x.v("c"), dv)), flat(V, *at("c")), Real(0))
    dot = lambda: x.fold("add", "j", dk, lambda: F("mul", Psi(x.v("z"), x.v("j")), Psi(x.v("kt"), x.v("j"), x.v("u"))))
    score = lambda: x.let("s", dot(), lambda: F("mul", x.v("s"), SCALE))
    weight = lambda: Where(both(seen()), F("exp", F("sub", Psi(x.v("S"), x.v("u")), x.v("M"))), Real(0))
    part = lambda: F("mul", Psi(x.v("E"), x.v("u")), Psi(x.v("vt"), x.v("u"), x.v("c")))
    sums = lambda: x.let("l", x.fold("add", "u", count(), part, seen), lambda: x.v("l"))
    state = lambda: Term("state", None, (x.v("M"), x.v("l"), x.build("c", COLUMNS, lambda: Psi(x.v("Y"), x.v("c")))))

    def tile() -> Term:
        lets: list[tuple[str, Body]] = [
            ("kt", lambda: x.build("j", dk, lambda: x.build("u", KEYS, k))),
            ("vt", lambda: x.build("u", KEYS, lambda: x.build("c", COLUMNS, v))),
            ("S", lambda: x.build("u", KEYS, score)),
            ("M", lambda: x.fold("max", "u", count(), lambda: Psi(x.v("S"), x.v("u")), seen)),
            ("E", lambda: x.build("u", KEYS, weight)),
            ("Y", lambda: x.build("c", COLUMNS, sums)),
            ("l", lambda: x.fold("add", "u", count(), lambda: Psi(x.v("E"), x.v("u")), seen)),
        ]

        def go(k: int) -> Term:
            return x.let(lets[k][0], lets[k][1](), lambda: go(k + 1)) if k < len(lets) else state()

        return go(0)

    states = lambda: x.fold("softmax", "J", bk, tile, skipped)
    return x.let("z", x.build("j", dk, query), lambda: x.let("w", states(), last))


def causal_term() -> Term:
    x = Names()
    count = lambda: Min(KEYS, Sub(m, Mul(x.v("J"), KEYS)))
    skipped = lambda: Lt(Mul(x.v("J"), KEYS), Add(Mul(x.v("I"), T), T))
    last = lambda: x.build("c", dv, lambda: Psi(quotient(x.v("w")), x.v("c")))
    tile = lambda: x.tile(lambda: row_program(x, None, count, True, skipped, last))
    return x.build("x", b, lambda: x.build("y", h, tile, "grid"), "grid")


def split_term() -> Term:
    x = Names()
    chunk = lambda: Min(CHUNK, Sub(m, Mul(x.v("P"), CHUNK)))
    start = lambda: Mul(x.v("P"), CHUNK)
    count = lambda: Min(KEYS, Sub(chunk(), Mul(x.v("J"), KEYS)))
    skipped = lambda: Lt(Mul(x.v("J"), KEYS), chunk())
    tile = lambda: x.tile(lambda: row_program(x, start, count, False, skipped, lambda: x.v("w")))
    grid = lambda body: x.build("x", b, lambda: x.build("y", h, body, "grid"), "grid")
    states = x.build("P", bp, lambda: grid(tile), "grid")
    one = lambda: Psi(*map(x.v, ("W", "P", "x", "y", "i", "c")))
    merged = lambda: x.let("w", x.fold("softmax", "P", bp, one), lambda: quotient(x.v("w")))
    rows = lambda: grid(lambda: x.build("i", n, lambda: x.build("c", dv, merged, "thread"), "grid"))
    return x.let("W", states, rows)


def small_term() -> Term:
    x = Names()
    row = lambda: Add(Mul(x.v("I"), T), x.v("r"))
    read = lambda: Psi(x.v("s"), x.v("k"))
    first = lambda: x.build("c", dk, lambda: Where(Lt(row(), n), flat(X, row(), x.v("c")), Real(-3, 4)))
    seen = lambda: Flat(SEEN, x.v("k"))
    top = lambda: x.fold("max", "k", dk, read, lambda: And(Term("not", None, (Lt(x.v("k"), Int(1)),)), seen()))
    times = lambda: x.fold("mul", "k", Min(dk, Add(x.v("I"), Int(1))), lambda: F("sub", x.v("m"), read()), seen)
    root = lambda: F("add", F("sqrt", x.v("p")), Term("cast", None, (x.v("r"),)))
    part = lambda: F("mul", read(), Flat(W, x.v("c")))
    total = lambda: x.fold("add", "k", dk, part, lambda: Lt(x.v("c"), x.v("k")))
    array = lambda: x.build("c", COLUMNS, lambda: x.let("l", total(), lambda: F("div", x.v("l"), x.v("g"))))
    other = lambda: x.build("c", COLUMNS, lambda: F("neg", Psi(x.v("a"), x.v("c"))))
    at = lambda name, index: Psi(x.v(name), index)
    cell = lambda: F("sub", F("mul", at("t", x.v("c")), at("a", x.v("c"))), at("t", Int(0)))
    lets = (("s", first), ("m", top), ("p", times), ("g", root), ("a", array), ("t", other))

    def go(k: int) -> Term:
        return x.let(lets[k][0], lets[k][1](), lambda: go(k + 1)) if k < len(lets) else x.build("c", dv, cell)

    return x.tile(lambda: go(0))


def column_term() -> Term:
    x = Names()
    part = lambda: F("mul", flat(X, x.v("i"), x.v("k")), Flat(W, x.v("c")))
    total = lambda: x.fold("add", "k", dk, part, lambda: Flat(SEEN, x.v("k")))
    last = lambda: x.let("q", F("exp", x.v("s")), lambda: F("mul", x.v("q"), x.v("s")))
    cell = lambda: x.let("s", total(), last)
    return x.build("i", n, lambda: x.build("c", dv, cell, "thread"), "grid")


def states_term() -> Term:
    x = Names()
    state = lambda top, value: Term("state", None, (top(), Real(1), value()))
    at = lambda: flat(X, x.v("i"), x.v("k"))
    one = lambda: x.let("p", F("mul", at(), Flat(W, x.v("c"))), lambda: state(lambda: x.v("p"), at))
    first = lambda: x.fold("softmax", "k", dk, one, lambda: Flat(SEEN, x.v("k")))
    two = lambda: state(at, lambda: quotient(x.v("u")))
    second = lambda: x.fold("softmax", "k", Min(dk, Add(x.v("i"), Int(1))), two)
    last = lambda: x.let("v", second(), lambda: F("sub", quotient(x.v("u")), quotient(x.v("v"))))
    cell = lambda: x.let("u", first(), last)
    return x.build("i", n, lambda: x.build("c", dv, cell, "thread"), "grid")


@dataclass(frozen=True)
class Sample:
    """A text and the term that it says."""

    text: str
    term: Term
    inputs: tuple[Term, ...]
    sizes: tuple[str, ...]


ATTENTION = (Q, K, V, SCALE)
SMALL_SIZES = ("n", "dk", "dv", "bq", "ri", "ty", "rc", "tx")
SAMPLES = {
    "causal": Sample(
        CAUSAL, causal_term(), ATTENTION, ("b", "h", "n", "dk", "m", "dv", "bq", "ri", "ty", "rc", "tx", "bk", "rj")
    ),
    "split": Sample(
        SPLIT, split_term(), ATTENTION, ("b", "h", "n", "dk", "m", "dv", "bq", "ri", "ty", "rc", "tx", "bp", "bk", "rj")
    ),
    "small": Sample(SMALL, small_term(), (X, W, SEEN), SMALL_SIZES),
    "column": Sample(COLUMN, column_term(), (X, W, SEEN), SMALL_SIZES),
    "states": Sample(STATES, states_term(), (X, W, SEEN), SMALL_SIZES),
}


def read(s: Sample, text: str) -> Reading:
    return read_kernel((HEAD + text).encode(), s.inputs, s.sizes)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_text_reads_to_its_term(name: str) -> None:
    s = SAMPLES[name]
    found = read(s, s.text)
    assert found.term is s.term
    assert (found.dtype, found.core_digest, found.name) == ("float64", CORE, "kernel")
    assert is_onf(s.term)


def test_the_dtype_is_the_import_line() -> None:
    s = SAMPLES["column"]
    text = (HEAD + s.text).replace("cuda_float64", "cuda_float32")
    found = read_kernel(text.encode(), s.inputs, s.sizes)
    assert (found.term, found.dtype) == (s.term, "float32")


def test_the_headers_are_told() -> None:
    s = SAMPLES["split"]
    states = (bp, b, h, n)
    partial, kernel = read(s, s.text).launches
    made = (("m84", states), ("l85", states), ("o86", (*states, COLUMNS)))
    constants = ("dk", "ri", "ty", "rc", "tx", "rj")
    assert partial == Launch("partial87", (bp, b, h, Size("bq")), ("tx", "ty"), constants, made)
    assert kernel == Launch("kernel", (b, h, n), ("tx",), ("tx",), ())


# --- what the reader does not look at ------------------------------------------------------------------------

BARRIER = "cuda.syncthreads()"


def barriers_moved(text: str, rng: random.Random) -> str:
    """The text without its barriers, but with some in other places."""
    lines: list[str] = []
    before = ""
    for line in text.splitlines():
        if BARRIER in line:
            continue
        indent = len(line) - len(line.lstrip())
        opened = before.rstrip().endswith(":") and not before.startswith("def ")
        if line.startswith("    ") and rng.random() < 0.3 and (indent <= len(before) - len(before.lstrip()) or opened):
            lines.append(" " * indent + BARRIER)
        lines.append(line)
        before = line
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", SAMPLES)
def test_barriers_say_nothing_here(name: str) -> None:
    s = SAMPLES[name]
    bare = "".join(line for line in s.text.splitlines(keepends=True) if BARRIER not in line)
    assert read(s, bare).term is s.term
    for seed in range(20):
        assert read(s, barriers_moved(s.text, random.Random(seed))).term is s.term


def test_a_text_of_barriers_alone_says_nothing() -> None:
    s = SAMPLES["column"]
    start = s.text.index("        s = ZERO")
    for text in (s.text[:start] + f"        {BARRIER}\n", s.text[: s.text.index("    t =")] + f"    {BARRIER}\n"):
        with pytest.raises(CertificateInvalid):
            read(s, text)


# --- the normal form -----------------------------------------------------------------------------------------

GRID = lambda body: Build(n, body, "grid")
THREADS = lambda body: Build(dv, body, "thread")
ROW = lambda body: Tiles(n, bk, T, Build(Min(T, Sub(n, Mul(Var(0), T))), body, "thread"), "grid")
X_ROW = F("exp", Flat(W, Var(0)))
STATE = Fold("softmax", m, Term("state", None, (Flat(W, Var(0)), Real(1), Build(dk, Flat(W, Var(1))))))
LEFT = GRID(THREADS(Let(STATE, Var(0))))  # of rank 3: grid, thread, dk
MERGED = lambda element: Let(Fold("softmax", m, element), quotient(Var(0)))

NORMAL = {
    "columns": GRID(THREADS(X_ROW)),
    "rows": GRID(ROW(Build(dv, X_ROW))),
    "two-launches": Let(LEFT, GRID(THREADS(MERGED(Psi(Var(3), Var(2), Var(1), Var(0)))))),
    "three-launches": Let(LEFT, Let(LEFT, GRID(THREADS(MERGED(Psi(Var(4), Var(2), Var(1), Var(0))))))),
}
NO_NORMAL = {
    "a-grid-without-threads": (GRID(X_ROW), "a grid ends in threads"),
    "a-grid-of-cores": (GRID(Build(n, X_ROW, "core")), "a grid ends in threads"),
    "cores-of-a-grid": (Build(n, GRID(THREADS(X_ROW)), "core"), "outside the prefix"),
    "threads-without-a-grid": (THREADS(X_ROW), "outside the prefix"),
    "threads-in-a-row": (GRID(THREADS(THREADS(X_ROW))), "outside the prefix"),
    "a-grid-in-a-row": (GRID(THREADS(GRID(X_ROW))), "outside the prefix"),
    "an-extent-of-a-variable": (GRID(Tiles(n, Var(0), T, ROW(X_ROW).args[3], "grid")), "mention no variable"),
    "tiles-of-lanes": (Tiles(n, bk, T, Build(Min(T, Sub(n, Mul(Var(0), T))), X_ROW, "lane"), "grid"), "a tile is build"),
    "tiles-of-threads": (Tiles(n, bk, T, Build(Min(T, Sub(n, Mul(Var(0), T))), X_ROW, "thread"), "core"), "a tile is"),
    "tiles-turned": (Tiles(n, bk, T, Build(Min(Sub(n, Mul(Var(0), T)), T), X_ROW, "thread"), "grid"), "written so"),
    "a-value-is-left": (Let(GRID(THREADS(X_ROW)), GRID(THREADS(X_ROW))), "leaves a state"),
    "a-scalar-is-left": (Let(GRID(THREADS(Let(X_ROW, Var(0)))), GRID(THREADS(X_ROW))), "leaves a state"),
    "cores-after-states": (Let(LEFT, Build(n, X_ROW, "core")), "comes another launch"),
    "a-row-after-states": (Let(LEFT, Build(n, X_ROW)), "comes another launch"),
    "a-state-as-an-array": (Let(LEFT, GRID(THREADS(Psi(quotient(Var(2)), Var(1), Var(0), Var(0))))), "a let of a state"),
    "a-row's-state-merged": (GRID(THREADS(Let(STATE, MERGED(Psi(Var(1), Var(0)))))), "indexes an array of states"),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMAL)
def test_what_a_grid_computes_is_in_normal_form(name: str) -> None:
    require_onf(NORMAL[name])


@pytest.mark.parametrize("name", NO_NORMAL)
def test_what_no_grid_computes_is_refused_with_its_place(name: str) -> None:
    t, why = NO_NORMAL[name]
    with pytest.raises(IllFormed, match=why):
        require_onf(t)


# --- three launches ------------------------------------------------------------------------------------------

PARTIAL, MERGE = SPLIT.split("\n\n\n")
MADE = ("m84", "l85", "o86")


def three(*kept: str) -> str:
    """Two launches that leave states, the second the same as the first; the kernel merges those of the arrays."""
    again = PARTIAL.replace("partial87(", "partial88(").replace("m84", "m1").replace("l85", "l1").replace("o86", "o1")
    again = again.replace("(m1, l1, o1, q,", "(m1, l1, o1, m84, l85, o86, q,")
    merge = MERGE
    for old, new in zip(MADE, kept, strict=True):
        merge = merge.replace(f"{old}[", f"{new}[")
    return "\n\n\n".join([PARTIAL, again, merge.replace("o86, q,", "o86, m1, l1, o1, q,")])


@pytest.mark.parametrize(("kept", "level"), [(MADE, 6), (("m1", "l1", "o1"), 5)])
def test_states_of_several_launches(kept: tuple[str, ...], level: int) -> None:
    s = SAMPLES["split"]
    states, last = s.term.args
    found = read(s, three(*kept)).term
    assert found.args[0] is found.args[1].args[0] is states
    element = Psi(Var(level), Var(0), Var(4), Var(3), Var(2), Var(1))
    merged = Let(Fold("softmax", bp, element), quotient(Var(0)))
    rows = Build(b, Build(h, Build(n, Build(dv, merged, "thread"), "grid"), "grid"), "grid")
    assert found.args[1].args[1] is rows
    assert (rows is last) == (level == 5)


@pytest.mark.parametrize(
    "kept", [("m1", "l85", "o86"), ("m84", "l1", "o86"), ("m84", "l85", "o1"), ("m1", "l1", "o86")]
)
def test_a_state_is_of_one_launch(kept: tuple[str, ...]) -> None:
    with pytest.raises(CertificateInvalid, match="the states of one launch are due"):
        read(SAMPLES["split"], three(*kept))
