// The one matrix product of this backend: C (+)= A B, with vectors along the columns of B and C.
//
// A block of up to 6 rows x NR vectors of C stays in registers while the inner dimension runs: every step loads NR
// vectors of B, and spreads one number of A for each row. With AVX-512 that is 6 x 4 = 24 of 32 registers, with AVX2 6
// x 2 = 12 of 16; both leave room for the vectors of B and the spread number, and have more sums under way than the
// adder's latency asks for. A is read one number at a time, so it may lie in any order (two strides) and is never
// repacked; B should fit into the first cache. Sums are formed in registers and added to C once, which also keeps
// rounding errors small.
#pragma once

#include "lanes.hpp"

namespace strop {

constexpr int MR = 6;
constexpr int NR = LANES == 16 ? 4 : 2;

// Where the numbers of A are: element (i, k) is at start[i * row + k * step].
struct Strided {
    const float* start;
    int64_t row, step;
    STROP_INLINE Strided from_row(int64_t i) const { return {start + i * row, row, step}; }
};

template <int R, int V, bool ADD>
STROP_INLINE void small_product(Strided a, const float* b, int64_t b_stride, float* c, int64_t c_stride,
                                int64_t steps) {
    Vec sums[R][V] = {};
    const float* row[R];
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) row[i] = a.start + i * a.row;
    for (int64_t k = 0; k < steps; ++k) {
        Vec column[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) column[v] = load(b + v * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < R; ++i) {
            const Vec number = splat(row[i][k * a.step]);
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) sums[i][v] += number * column[v];
        }
        b += b_stride;
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
            float* to = c + i * c_stride + v * LANES;
            store(to, ADD ? load(to) + sums[i][v] : sums[i][v]);
        }
}

template <int V, bool ADD>
void panel_product(Strided a, const float* b, int64_t b_stride, float* c, int64_t c_stride, int64_t rows,
                   int64_t steps) {
    int64_t i = 0;
    for (; i + MR <= rows; i += MR)
        small_product<MR, V, ADD>(a.from_row(i), b, b_stride, c + i * c_stride, c_stride, steps);
    a = a.from_row(i), c += i * c_stride;
    switch (rows - i) {
        case 5:
            return small_product<5, V, ADD>(a, b, b_stride, c, c_stride, steps);
        case 4:
            return small_product<4, V, ADD>(a, b, b_stride, c, c_stride, steps);
        case 3:
            return small_product<3, V, ADD>(a, b, b_stride, c, c_stride, steps);
        case 2:
            return small_product<2, V, ADD>(a, b, b_stride, c, c_stride, steps);
        case 1:
            return small_product<1, V, ADD>(a, b, b_stride, c, c_stride, steps);
        default:
            return;
    }
}

// C (rows x vectors * LANES) (+)= A (rows x steps) B (steps x vectors * LANES).
template <bool ADD>
inline void product(Strided a, const float* b, int64_t b_stride, float* c, int64_t c_stride, int64_t rows,
                    int64_t vectors, int64_t steps) {
    for (; vectors >= NR; vectors -= NR, b += NR * LANES, c += NR * LANES)
        panel_product<NR, ADD>(a, b, b_stride, c, c_stride, rows, steps);
    if constexpr (NR == 4) {
        if (vectors == 3) return panel_product<3, ADD>(a, b, b_stride, c, c_stride, rows, steps);
        if (vectors == 2) return panel_product<2, ADD>(a, b, b_stride, c, c_stride, rows, steps);
    }
    if (vectors == 1) panel_product<1, ADD>(a, b, b_stride, c, c_stride, rows, steps);
}

}  // namespace strop
