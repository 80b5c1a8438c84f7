"""Defects planted into the kernels of tests/metal/kernels, each by one replacement in the source, and what has to be
said about each: the kind, the line (as text: the tests look for its number), the buffer or array.

Texts of lines are there once in the changed source; where one spans lines, » stands before what is meant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import kernel_runs as kernels
import numpy as np

from parity import BF16, F16, F32

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
RACE, BOUNDS, UNINITIALISED = "race", "out-of-bounds", "uninitialised"
DIVERGENT, MISALIGNED = "divergent-barrier", "misaligned"


@dataclasses.dataclass(frozen=True)
class Defect:
    name: str
    run: str  # of kernel_runs.RUNS
    old: str  # in the source, once
    new: str
    kind: str
    at: str  # what the line of the finding contains
    variable: str | None  # buffer or array
    other: str = ""  # what the other access's line contains; a race may name the two either way round
    kernel: str = ""  # without the dtype; as the run, if it is not given
    buffer: int | None = None
    also: tuple[str, ...] = ()  # kinds of findings that the defect brings besides
    dtype: np.dtype = F32
    severity: str = "error"
    make: Callable | None = None  # other shapes than the run's
    orders: tuple[str, ...] = kernels.ORDERS  # in which it can be seen


def softmax() -> list[Defect]:
    tops, sums = ("tops[simdgroup] = top;", "simd_max(lane <"), ("sums[simdgroup] = sum;", "simd_sum(lane <")
    race = partial(Defect, run="softmax", kind=RACE, also=(UNINITIALISED,))
    top_barrier = f"{tops[0]}\n    {BARRIER}"
    rows = "for (uint c = thread_index; c < columns; c += threads)\n        "
    bounds = partial(Defect, run="softmax", kind=BOUNDS)
    return [
        race("softmax: no barrier after the maxima", old=top_barrier, new=f"{tops[0]}\n", at=tops[0], other=tops[1],
             variable="tops"),
        race("softmax: no barrier after the sums", old=f"{sums[0]}\n    {BARRIER}", new=f"{sums[0]}\n", at=sums[0],
             other=sums[1], variable="sums"),
        race("softmax: mem_none", old=top_barrier, new=top_barrier.replace("mem_threadgroup", "mem_none"), at=tops[0],
             other=tops[1], variable="tops"),
        race("softmax: mem_device", old=f"{sums[0]}\n    {BARRIER}",
             new=f"{sums[0]}\n    threadgroup_barrier(mem_flags::mem_device);", at=sums[0], other=sums[1],
             variable="sums"),
        race("softmax: a simdgroup barrier", old=top_barrier, new=top_barrier.replace("threadgroup_b", "simdgroup_b"),
             at=tops[0], other=tops[1], variable="tops"),
        Defect("softmax: barrier in a branch", "softmax", f"if (lane == 0)\n        {top_barrier}",
               f"if (lane == 0) {{\n        {tops[0]}\n        {BARRIER} }}", DIVERGENT, f"{BARRIER} }}", None,
               other=f"    {BARRIER}\n    const", also=(RACE, UNINITIALISED)),
        Defect("softmax: early return", "softmax", "float top = -INFINITY;",
               "float top = -INFINITY; if (thread_index >= columns) return;", DIVERGENT, f"{BARRIER}\n    top =", None,
               also=(UNINITIALISED,), make=partial(kernels.softmax, columns=50)),
        Defect("softmax: a simdgroup does not write", "softmax", f"if (lane == 0)\n        {tops[0]}",
               f"if (lane == 0 && simdgroup > 0)\n        {tops[0]}", UNINITIALISED, tops[1], "tops"),
        bounds("softmax: one read past the end", old=f"{rows}top =", new=f"{rows.replace('<', '<=')}top =",
               at="top = max(top,", variable="x", buffer=0),
        bounds("softmax: one write past the end", old=f"{rows}out[c]", new=f"{rows.replace('<', '<=')}out[c]",
               at="out[c] =", variable="out", buffer=1, also=(RACE,)),
        bounds("softmax: read before the start", old="sum += exp(float(x[c])", new="sum += exp(float(x[int(c) - 1])",
               at="sum += exp(", variable="x", buffer=0),
        bounds("softmax: an unsigned index below zero", old="sum += exp(float(x[c])", new="sum += exp(float(x[c - 1])",
               at="sum += exp(", variable="x", buffer=0),
        bounds("softmax: write before the start", old="out[c] =", new="out[int(c) - 1] =", at="out[int(c) - 1] =",
               variable="out", buffer=1, also=(RACE,)),
        bounds("softmax: too small an array", old="float tops[32];", new="float tops[2];", at=tops[0], variable="tops",
               also=(RACE,)),
        bounds("softmax: an array's index below zero", old=tops[0], new="tops[int(simdgroup) - 1] = top;",
               at="tops[int(simdgroup) - 1]", variable="tops", also=(UNINITIALISED,)),
        Defect("softmax: 2048 floats too many", "softmax", "float sums[32];", "float sums[8192];", "threadgroup-memory",
               "softmax(device const T *x", None),
    ]  # fmt: skip


def layer_norm() -> list[Defect]:
    store, load = "partial[simdgroup] = value;", "simd_sum(lane <"
    races = partial(Defect, run="layer_norm", kind=RACE, at=store, other=load, variable="partial")
    misaligned = partial(
        Defect, run="layer_norm", old="(x + row * columns)", new="(x + row * columns + 1)", kind=MISALIGNED,
        at="sum += dot(", variable="x", buffer=0, also=(BOUNDS,),
    )  # fmt: skip
    return [
        races("layer norm: no barrier before the sum", old=f"{store}\n    {BARRIER}", new=f"{store}\n",
              also=(UNINITIALISED,)),
        races("layer norm: no barrier after the sum", old=f"    {BARRIER}\n    return value;",
              new="\n    return value;"),
        misaligned("layer norm: misaligned float4"),
        misaligned("layer norm: misaligned half4", dtype=F16),
        misaligned("layer norm: misaligned bfloat4", dtype=BF16),
        Defect("layer norm: misaligned store", "layer_norm", "(out + row * columns)", "(out + row * columns + 2)",
               MISALIGNED, "out4[c] = T4(", "out", buffer=3, dtype=F16, also=(BOUNDS, RACE)),
        Defect("layer norm: read past the weights", "layer_norm", "weight)[c]", "weight)[c + 1]", BOUNDS,
               "const float4 w =", "weight", buffer=1),
        Defect("layer norm: a row too far", "layer_norm", "out4[c] =", "out4[c + fours] =", BOUNDS, "out4[c + fours] =",
               "out", buffer=3),
        Defect("layer norm: barrier in a loop of different lengths", "layer_norm", "square += dot(d, d);",
               f"square += dot(d, d); {BARRIER}", DIVERGENT, f"dot(d, d); {BARRIER}", None,
               other=f"{BARRIER}\n    value =", also=(RACE,)),
    ]  # fmt: skip


def gemv() -> list[Defect]:
    store, load = "partial[simdgroup][r] = sum;", "sum += partial[s][thread_index];"
    bounds = partial(Defect, run="gemv", kind=BOUNDS)
    return [
        Defect("gemv: no barrier", "gemv", f"    {BARRIER}\n    if (thread_index <", "\n    if (thread_index <", RACE,
               store, "partial", other=load, also=(UNINITIALISED,)),
        Defect("gemv: mem_none", "gemv", BARRIER, "threadgroup_barrier(mem_flags::mem_none);", RACE, store, "partial",
               other=load, also=(UNINITIALISED,)),
        Defect("gemv: all lanes write", "gemv", f"if (lane == 0)\n            {store}", f"\n            {store}",
               "race-same-value", store, "partial", other=store, severity="note"),
        bounds("gemv: rows past the end written", old="if (thread_index < ROWS && first + thread_index < rows)",
               new="if (thread_index < ROWS)", at="y[first + thread_index] =", variable="y", buffer=2),
        bounds("gemv: rows past the end read", old="r < ROWS && first + r < rows", new="r < ROWS",
               at="sums[r] += float(at[k])", variable="a", buffer=0),
        bounds("gemv: columns past the end", old="min(4u, columns - c)", new="4u", at="values[k] = float(",
               variable="x", buffer=1),
        bounds("gemv: past a thread's array", old="* values[k];", new="* values[k + 1];", at="values[k + 1]",
               variable=None),
        bounds("gemv: before a thread's array", old="values[k] = float(", new="values[int(k) - 1] = float(",
               at="values[int(k) - 1] =", variable=None),
        bounds("gemv: one row of partial sums too many", old="s < SIMDGROUPS; s++", new="s <= SIMDGROUPS; s++", at=load,
               variable="partial"),
    ]  # fmt: skip


def gemm() -> list[Defect]:
    store, left, right = "tile[r * LD + c] =", "simdgroup_load(left[i]", "simdgroup_load(right[i]"
    bounds = partial(Defect, run="gemm", kind=BOUNDS)
    return [
        Defect("gemm: no barrier after the loads", "gemm", f"next_rows(BK);\n        {BARRIER}", "next_rows(BK);\n",
               RACE, store, "a_tile", other=left, also=(UNINITIALISED,)),
        Defect("gemm: no barrier before the next tiles", "gemm", f"{BARRIER}\n    }}\n\n", "\n    }\n\n", RACE, store,
               "b_tile", other=right),
        Defect("gemm: no barrier before the results are copied", "gemm", f"LDC);\n    {BARRIER}", "LDC);\n", RACE,
               "simdgroup_store(sums[i][j]", "c_tile", other="= T(c_tile[", also=(UNINITIALISED,)),
        Defect("gemm: mem_none", "gemm", f"next_rows(BK);\n        {BARRIER}",
               "next_rows(BK);\n        threadgroup_barrier(mem_flags::mem_none);", RACE, store, "b_tile", other=right,
               also=(UNINITIALISED,)),
        bounds("gemm: rows past the end of the operands", old="r < rows && column + c < columns",
               new="column + c < columns", at="= inside ? source[", variable="a", buffer=0),
        bounds("gemm: columns past the end of the result", old="if (row + r < p.M && column + n < p.N)",
               new="if (row + r < p.M)", at="c[(row + r) * p.N", variable="c", buffer=2, also=(RACE,)),
        bounds("gemm: too small a tile", old="b_tile[BK * LDB]", new="b_tile[BK * BN]", at=store, variable="b_tile"),
        bounds("gemm: matrices past the tile", old="a_tile + (own_row + i * 8)", new="a_tile + (own_row + i * 8 + 8)",
               at=left, variable="a_tile", also=(UNINITIALISED,)),
        Defect("gemm: too much threadgroup memory", "gemm", "c_tile[BM * LDC]", "c_tile[BM * LDC * 8]",
               "threadgroup-memory", "gemm(device const T *a", None),
    ]  # fmt: skip


def reduce() -> list[Defect]:
    tree, adds = "tree[thread_index] = sum;", "tree[thread_index] +="
    values, reads = "values[group] = best.value;", "best.better({values[g]"
    fence = "atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);"
    arg = partial(Defect, run="argmax", kind=RACE)
    between = partial(arg, at=values, other=reads, variable="values", buffer=1)
    best = "atomic_store_explicit(&best, 0u, memory_order_relaxed);"
    top = "atomic_fetch_max_explicit(top, atomic_load_explicit(&best, memory_order_relaxed), memory_order_relaxed);"
    last = "threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);"
    total = partial(Defect, run="sum", kernel="sum_partial")
    return [
        total("sum: no barrier", old=f"        {BARRIER}\n        if (thread_index < width)",
              new="\n        if (thread_index < width)", kind=RACE, at=tree, other=adds, variable="tree",
              also=(UNINITIALISED,)),
        total("sum: one element too many", old="i < n; i += step)\n        sum",
              new="i <= n; i += step)\n        sum", kind=BOUNDS, at="sum += float(x[i]);", variable="x", buffer=0),
        total("sum: twice as wide a tree", old="width = threads / 2", new="width = threads", kind=UNINITIALISED,
              at=adds, variable="tree"),
        total("sum: all threadgroups write one place", old="partial[group] = tree[0];", new="partial[0] = tree[0];",
              kind=RACE, at="partial[0] = tree[0];", other="partial[0] = tree[0];", variable="partial", buffer=1),
        Defect("sum: one partial sum too many", "sum", "i < n; i += 32", "i <= n; i += 32", BOUNDS,
               "sum += partial[i];", "partial", buffer=0, kernel="sum_final"),
        Defect("max: no barrier after the store", "max", f"{best}\n    {BARRIER}", f"{best}\n", "race-atomic", best,
               "best", other="atomic_fetch_max_explicit(&best", kernel="max_atomic", severity="warning",
               also=(UNINITIALISED,)),
        Defect("max: not atomic between threadgroups", "max", top,
               "*(device uint *)top = max(*(device uint *)top, atomic_load_explicit(&best, memory_order_relaxed));",
               RACE, "*(device uint *)top =", "top", other="*(device uint *)top =", buffer=1, kernel="max_atomic"),
        Defect("max: all threads initialise", "max", f"if (thread_index == 0)\n        {best}",
               f"\n        atomic_store_explicit(&best, thread_index & 0u, memory_order_relaxed); {BARRIER} "
               "*(threadgroup uint *)&best = thread_index;", RACE, "*(threadgroup uint *)&best", "best",
               other="*(threadgroup uint *)&best", kernel="max_atomic"),
        between("argmax: no release fence", old=f"{fence}\n        is_last", new="\n        is_last"),
        between("argmax: no acquire fence", old=f"return;\n    {fence}", new="return;\n"),
        between("argmax: fence of the wrong memory", old=f"{fence}\n        is_last",
                new=f"{fence.replace('mem_device', 'mem_threadgroup')}\n        is_last"),
        between("argmax: fence with mem_none", old=f"return;\n    {fence}",
                new=f"return;\n    {fence.replace('mem_device', 'mem_none')}"),
        between("argmax: relaxed fence", old=f"return;\n    {fence}",
                new=f"return;\n    {fence.replace('seq_cst', 'relaxed')}"),
        between("argmax: barrier without device memory", old=last, new=BARRIER,
                orders=("forward",)),  # else the threadgroup that comes last may read its own results in thread 0
        arg("argmax: no barrier before the decision", old=f"    {last}\n", new="\n",
            at="is_last = atomic_fetch_add", other="if (!is_last)", variable="is_last",
            also=(UNINITIALISED, DIVERGENT)),
        arg("argmax: no barrier in the reduction", old=BARRIER + "\n    if (lane < simdgroups)",
            new="\n    if (lane < simdgroups)", at="values[simdgroup] = own.value;", other="own = {values[lane]",
            variable="group_values", also=(UNINITIALISED,)),
    ]  # fmt: skip


def scan() -> list[Defect]:
    store, update, use = "simd_totals[simdgroup] = before + own;", "simd_totals[lane] = sum;", "before += simd_totals["
    blocks = partial(Defect, run="scan", kernel="scan_blocks")
    adds = partial(Defect, run="scan", kernel="scan_add", kind=BOUNDS)
    return [
        blocks("scan: no first barrier", old=f"{store}\n    {BARRIER}", new=f"{store}\n", kind=RACE, at=store,
               other="simd_totals[lane] : 0.0f", variable="simd_totals", also=(UNINITIALISED,)),
        blocks("scan: no second barrier", old=f"    {BARRIER}\n    {use}", new=f"\n    {use}", kind=RACE, at=update,
               other=use, variable="simd_totals", also=(UNINITIALISED,)),
        blocks("scan: barrier of one simdgroup only", old=f"{update}\n    }}\n    {BARRIER}",
               new=f"{update}\n        {BARRIER}\n    }}", kind=DIVERGENT, at=f"{update}\n        »{BARRIER}",
               variable=None, also=(RACE, UNINITIALISED)),
        blocks("scan: a simdgroup does not write", old="if (lane == 31)", new="if (lane == 31 && simdgroup < 2)",
               kind=UNINITIALISED, at="simd_totals[lane] : 0.0f", variable="simd_totals"),
        blocks("scan: elements past the end written", old="        if (first + k < n)\n            out",
               new="        \n            out", kind=BOUNDS, at="out[first + k] =", variable="out", buffer=1),
        blocks("scan: elements past the end read", old="first + k < n ? float(x[first + k]) : 0.0f",
               new="float(x[first + k])", kind=BOUNDS, at="float(x[first + k]);", variable="x", buffer=0),
        blocks("scan: before a thread's array", old="for (uint k = 1;", new="for (uint k = 0;", kind=BOUNDS,
               at="values[k] += values[k - 1];", variable=None),
        blocks("scan: past a thread's array", old="values[PER_THREAD - 1]", new="values[PER_THREAD]", kind=BOUNDS,
               at="own = values[PER_THREAD]", variable=None),
        adds("scan: no bound", old="    if (i >= n)\n        return;\n", new="\n\n", at="out[i] = T(", variable="sums",
             buffer=0),
        adds("scan: the total before the first", old="before > 0 ? sums[i] + totals[before - 1] : sums[i]",
             new="sums[i] + totals[int(before) - 1]", at="out[i] = T(", variable="totals", buffer=1),
    ]  # fmt: skip


def bitonic() -> list[Defect]:
    exchanges = ("keys[low] = b;", "keys[high] = a;", "const auto a = keys[low]")
    block = partial(Defect, run="bitonic", kernel="bitonic_block")
    step = partial(Defect, run="bitonic", kernel="bitonic_step")
    return [
        block("bitonic: no barrier between the steps", old=f"            {BARRIER}\n            exchange",
              new="\n            exchange", kind=RACE, at=exchanges[2], other="block[t] = keys[first + t];",
              variable="block", also=(UNINITIALISED,)),
        block("bitonic: no barrier before the copy", old=f"    {BARRIER}\n    keys[first + t] =",
              new="\n    keys[first + t] =", kind=RACE, at=exchanges[0], other="keys[first + t] = block[t];",
              variable="block"),
        block("bitonic: mem_none", old=f"            {BARRIER}\n            exchange",
              new="            threadgroup_barrier(mem_flags::mem_none);\n            exchange", kind=RACE,
              at=exchanges[2], other="block[t] = keys[first + t];", variable="block", also=(UNINITIALISED,)),
        block("bitonic: past the block", old="block[t + BLOCK / 2] = keys", new="block[t + BLOCK / 2 + 1] = keys",
              kind=BOUNDS, at="block[t + BLOCK / 2 + 1] =", variable="block", also=(UNINITIALISED,)),
        block("bitonic: pairs past the block", old="(t & (distance - 1)), high = low + distance",
              new="(t & (distance - 1)) + 1, high = low + distance", kind=BOUNDS, at=exchanges[2], variable="block",
              also=(UNINITIALISED, RACE)),
        block("bitonic: pairs that overlap", old="2 * t - (t & (distance - 1))", new="2 * t - (t & (distance / 2 - 1))",
              kind=RACE, at=exchanges[0], other=exchanges[2], variable="block", also=(BOUNDS, UNINITIALISED)),
        step("bitonic: before the keys", old="exchange(keys, i,", new="exchange(keys - 1, i,", kind=BOUNDS,
             at=exchanges[2], variable="keys", buffer=0),
        step("bitonic: pairs of threadgroups overlap", old="exchange(keys, i,", new="exchange(keys + i % 2, i,",
             kind=RACE, at=exchanges[0], other=exchanges[2], variable="keys", buffer=0, also=(BOUNDS,)),
    ]  # fmt: skip


def attention() -> list[Defect]:
    load, use = "k_tile[r][d] = inside", "float(k_tile[lane][d])"
    bounds = partial(Defect, run="attention", kind=BOUNDS)
    return [
        Defect("attention: no barrier before the next tile", "attention",
               f"        {BARRIER}\n        for (uint i = thread", "\n        for (uint i = thread", RACE,
               load, "k_tile", other=use),
        Defect("attention: no barrier after the tile", "attention", f"        {BARRIER}\n        for (uint r = 0;",
               "\n        for (uint r = 0;", RACE, "v_tile[r][d] = inside", "v_tile",
               other="float(v_tile[j][c * 32 + lane])", also=(UNINITIALISED,)),
        Defect("attention: mem_none", "attention", f"        {BARRIER}\n        for (uint r = 0; r < OWN",
               "        threadgroup_barrier(mem_flags::mem_none);\n        for (uint r = 0; r < OWN", RACE, load,
               "k_tile", other=use, also=(UNINITIALISED,)),
        Defect("attention: early return", "attention", "q += group.y * p.queries * D;",
               "q += group.y * p.queries * D; if (first + simdgroup * OWN >= p.queries) return;", DIVERGENT,
               f"{BARRIER}\n        for (uint i = thread_index; i < BK", None, also=(UNINITIALISED,)),
        bounds("attention: keys past the end", old="inside ? k[(tile + r) * D + d] : T(0)", new="k[(tile + r) * D + d]",
               at=load.replace("inside", "k["), variable="k", buffer=1),
        bounds("attention: values past the end", old="inside ? v[(tile + r) * D + d] : T(0)",
               new="v[(tile + r) * D + d]", at="v_tile[r][d] = v[", variable="v", buffer=2),
        bounds("attention: a row too far", old="k_tile[r][d] =", new="k_tile[r + 1][d] =", at="k_tile[r + 1][d] =",
               variable="k_tile", also=(UNINITIALISED,)),
        bounds("attention: queries past the tile", old="fma(q_tile[simdgroup * OWN + r][d]",
               new="fma(q_tile[simdgroup * OWN + r + 1][d]", at="fma(q_tile[", variable="q_tile"),
        bounds("attention: queries past the end written", old="        if (query < p.queries)\n            for",
               new="        \n            for", at="out[query * D", variable="out", buffer=3, also=(RACE,)),
        bounds("attention: past a thread's array", old="c < PARTS; c++)\n                results[r][c] *=",
               new="c <= PARTS; c++)\n                results[r][c] *=", at="results[r][c] *= rescale;", variable=None),
    ]  # fmt: skip


DEFECTS = [*softmax(), *layer_norm(), *gemv(), *gemm(), *reduce(), *scan(), *bitonic(), *attention()]
