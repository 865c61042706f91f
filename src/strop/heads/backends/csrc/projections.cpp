// The projections before and after attention, for the chosen (token, head) pairs only, and their gradients.
//
// Three products cover all of it. With W_h the part of a weight that belongs to head h (D x d, or its transpose):
//
//     gather    row r  = token[r] W_h              queries; gradient of the output projection in its rows
//     scatter   token += gate_r row r W_h^T        output projection; gradient of the query projection in its tokens
//     weights   W_h   += token[r]^T gate_r row r   gradients of both weights
//
// Rows are taken head by head, so that W_h is packed once for all of its rows. Tokens are read through a list of
// pointers and never copied in gather; scatter owns a panel of columns and some tokens at a time in a small buffer, so
// that threads never write to the same place; weights packs both sides, 256 rows at a time. product.hpp explains the
// inner loop.
#include <algorithm>
#include <cstring>

#include "product.hpp"
#include "work.hpp"

namespace strop {
namespace {

constexpr int64_t STEPS = 512;         // of the inner dimension at a time: 512 x 64 numbers fit into the second cache
constexpr int64_t PANEL = NR * LANES;  // columns of a panel: as wide as a block of registers
constexpr int64_t TOKENS = 256;        // tokens of a scatter's buffer
constexpr int64_t SUMMED = 256;        // rows that are summed before a weight's gradient is touched

struct Projection {
    const int64_t *token, *head;                 // of each row
    int64_t rows, tokens, heads, width, hidden;  // r, b * n, H, d, D
    const float* weight;                         // (H * d, D), or (D, H * d) where `transposed`
    int64_t transposed;
    const float *gate, *bias;  // of each row; of each output; either may be null
};

// The rows of every head, in the order of their tokens.
struct ByHead {
    std::vector<int64_t> row, start;  // head h: row[start[h]] to row[start[h + 1]]
    explicit ByHead(const Projection& p) : row(p.rows), start(p.heads + 1, 0) {
        for (int64_t r = 0; r < p.rows; ++r) ++start[p.head[r] + 1];
        for (int64_t h = 0; h < p.heads; ++h) start[h + 1] += start[h];
        std::vector<int64_t> next(start.begin(), start.end() - 1);
        for (int64_t r = 0; r < p.rows; ++r) row[next[p.head[r]]++] = r;
    }
};

// As small_product, with every row of A and C where its pointer says; C gets factor * the sums.
template <int R, int V, bool ADD>
STROP_INLINE void pointer_product(const float* const* a, const float* b, int64_t b_stride, float* const* c,
                                  const float* factor, int64_t steps) {
    Vec sums[R][V] = {};
    for (int64_t k = 0; k < steps; ++k, b += b_stride) {
        Vec column[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) column[v] = load(b + v * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < R; ++i) {
            const Vec number = splat(a[i][k]);
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) sums[i][v] += number * column[v];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
            float* to = c[i] + v * LANES;
            store(to, ADD ? load(to) + sums[i][v] * splat(factor[i]) : sums[i][v] * splat(factor[i]));
        }
}

template <int V, bool ADD>
STROP_INLINE void pointer_rows(const float* const* a, const float* b, int64_t b_stride, float* const* c,
                               const float* factor, int count, int64_t steps) {
    switch (count) {
        case 6:
            return pointer_product<6, V, ADD>(a, b, b_stride, c, factor, steps);
        case 5:
            return pointer_product<5, V, ADD>(a, b, b_stride, c, factor, steps);
        case 4:
            return pointer_product<4, V, ADD>(a, b, b_stride, c, factor, steps);
        case 3:
            return pointer_product<3, V, ADD>(a, b, b_stride, c, factor, steps);
        case 2:
            return pointer_product<2, V, ADD>(a, b, b_stride, c, factor, steps);
        default:
            return pointer_product<1, V, ADD>(a, b, b_stride, c, factor, steps);
    }
}

// Up to MR rows with their pointers, times a packed panel of `vectors` vectors.
struct Rows {
    const float* a[MR];
    float* c[MR];
    float factor[MR];
    int count = 0;

    template <bool ADD>
    void times(const float* b, int64_t b_stride, int64_t vectors, int64_t steps) {
        for (; vectors > 0; vectors -= NR, b += PANEL) {
            if (vectors >= NR)
                pointer_rows<NR, ADD>(a, b, b_stride, c, factor, count, steps);
            else if constexpr (NR == 4) {
                if (vectors == 3) pointer_rows<3, ADD>(a, b, b_stride, c, factor, count, steps);
                if (vectors == 2) pointer_rows<2, ADD>(a, b, b_stride, c, factor, count, steps);
            }
            if (vectors == 1) pointer_rows<1, ADD>(a, b, b_stride, c, factor, count, steps);
            for (int i = 0; i < count; ++i) c[i] += PANEL;
        }
    }
};

// Write part of W_h as `rows` x `columns` with the given stride: hidden numbers down and head numbers across, or with
// `across` the other way round.
void pack_weight(const Projection& p, int64_t head, int64_t from, int64_t count, bool across, float* to,
                 int64_t stride) {
    const int64_t q = p.heads * p.width;
    const bool as_it_is = across != static_cast<bool>(p.transposed);
    const float* start =
        p.transposed ? p.weight + from * q + head * p.width : p.weight + head * p.width * p.hidden + from;
    const int64_t step = p.transposed ? q : p.hidden;
    const int64_t down = p.transposed ? count : p.width, along = p.transposed ? p.width : count;
    if (as_it_is) {
        for (int64_t i = 0; i < down; ++i) std::memcpy(to + i * stride, start + i * step, along * 4);
        return;
    }
    int64_t i = 0;
    for (; i + 8 <= down; i += 8) {
        int64_t j = 0;
        for (; j + 8 <= along; j += 8) transpose8(start + i * step + j, step, to + j * stride + i, stride);
        for (; j < along; ++j)
            for (int64_t k = i; k < i + 8; ++k) to[j * stride + k] = start[k * step + j];
    }
    for (; i < down; ++i)
        for (int64_t j = 0; j < along; ++j) to[j * stride + i] = start[i * step + j];
}

// Turn the products of some rows of a head into what is wanted: the gradient of the gate, the gate, the bias.
void finish_row(const Projection& p, int64_t r, const float* row, float* out, float* gate_gradient) {
    float* to = out + r * p.width;
    const float* bias = p.bias ? p.bias + p.head[r] * p.width : nullptr;
    const Vec gate = splat(p.gate ? p.gate[r] : 1.0f);
    Vec inner{};
    for (int64_t i = 0; i < p.width; i += LANES) {
        const Vec value = load(to + i);
        if (gate_gradient) inner += value * load(row + r * p.width + i);
        store(to + i, value * gate + (bias ? load(bias + i) : Vec{}));
    }
    if (gate_gradient) gate_gradient[r] = sum(inner);
}

}  // namespace

// out (r x d): token[r] W_h, times the gate, plus the bias. With gate_gradient: its gradient where `row` are the gated
// rows.
extern "C" int strop_gather(const Projection* projection, const float* hidden, float* out, const float* row,
                            float* gate_gradient, int threads) {
    const Projection& p = *projection;
    const ByHead by_head(p);
    threads = worthwhile(threads, p.rows * p.width * p.hidden * 2);
    const int64_t d = p.width, D = p.hidden;
    struct Task {
        int64_t head, from, to;
    };
    std::vector<Task> tasks;
    const int64_t most = std::max<int64_t>(p.rows / (threads * 4), 4 * TOKENS);
    for (int64_t h = 0; h < p.heads; ++h)
        for (int64_t at = by_head.start[h]; at < by_head.start[h + 1]; at += most)
            tasks.push_back({h, at, std::min(at + most, by_head.start[h + 1])});
    return share_out(static_cast<int64_t>(tasks.size()), threads, [&](int64_t number) {
        const Task task = tasks[number];
        float* panel = scratch().take(STEPS * d);
        for (int64_t k = 0; k < D; k += STEPS) {
            const int64_t steps = std::min(STEPS, D - k);
            pack_weight(p, task.head, k, steps, false, panel, d);
            for (int64_t at = task.from; at < task.to; at += MR) {
                Rows rows;
                for (int64_t i = at; i < std::min(at + MR, task.to); ++i, ++rows.count) {
                    const int64_t r = by_head.row[i];
                    rows.a[rows.count] = hidden + p.token[r] * D + k;
                    rows.c[rows.count] = out + r * d;
                    rows.factor[rows.count] = 1.0f;
                }
                k == 0 ? rows.times<false>(panel, d, d / LANES, steps) : rows.times<true>(panel, d, d / LANES, steps);
            }
        }
        if (p.gate || p.bias)
            for (int64_t i = task.from; i < task.to; ++i) finish_row(p, by_head.row[i], row, out, gate_gradient);
    });
}

// out (tokens x D): the bias, plus for every row of the token gate_r row r W_h^T.
extern "C" int strop_scatter(const Projection* projection, const float* row, float* out, int threads) {
    const Projection& p = *projection;
    const ByHead by_head(p);
    threads = worthwhile(threads, p.rows * p.width * p.hidden * 2);
    const int64_t d = p.width, D = p.hidden, q = p.heads * d;
    const int64_t panels = (D + PANEL - 1) / PANEL;
    const int64_t parts = panels >= 2 * threads ? 1 : std::min<int64_t>(2 * threads, (p.tokens + TOKENS - 1) / TOKENS);
    return share_out(panels * parts, threads, [&](int64_t task) {
        const int64_t column = task / parts * PANEL, columns = std::min(PANEL, D - column), part = task % parts;
        const int64_t begin = p.tokens * part / parts, end = p.tokens * (part + 1) / parts;
        float *weight = scratch().take(q * PANEL + TOKENS * PANEL), *sums = weight + q * PANEL;
        if (columns < PANEL) std::memset(weight, 0, q * PANEL * 4);
        for (int64_t h = 0; h < p.heads; ++h) pack_weight(p, h, column, columns, true, weight + h * d * PANEL, PANEL);
        std::vector<int64_t> next(p.heads);
        for (int64_t h = 0; h < p.heads; ++h) {
            const auto first = by_head.row.begin() + by_head.start[h],
                       last = by_head.row.begin() + by_head.start[h + 1];
            next[h] =
                std::partition_point(first, last, [&](int64_t r) { return p.token[r] < begin; }) - by_head.row.begin();
        }
        for (int64_t token = begin; token < end; token += TOKENS) {
            const int64_t stop = std::min(token + TOKENS, end);
            for (int64_t t = 0; t < stop - token; ++t)
                for (int64_t j = 0; j < columns; ++j) sums[t * PANEL + j] = p.bias ? p.bias[column + j] : 0.0f;
            for (int64_t h = 0; h < p.heads; ++h) {
                int64_t& at = next[h];
                while (at < by_head.start[h + 1] && p.token[by_head.row[at]] < stop) {
                    Rows rows;
                    for (; rows.count < MR && at < by_head.start[h + 1] && p.token[by_head.row[at]] < stop;
                         ++at, ++rows.count) {
                        const int64_t r = by_head.row[at];
                        rows.a[rows.count] = row + r * d;
                        rows.c[rows.count] = sums + (p.token[r] - token) * PANEL;
                        rows.factor[rows.count] = p.gate ? p.gate[r] : 1.0f;
                    }
                    rows.times<true>(weight + h * d * PANEL, PANEL, NR, d);
                }
            }
            for (int64_t t = token; t < stop; ++t)
                std::memcpy(out + t * D + column, sums + (t - token) * PANEL, columns * 4);
        }
    });
}

// gradient, of the weight's shape and zeroed: for every row of head h, token[r]^T gate_r row r, transposed as the
// weight is.
extern "C" int strop_weights(const Projection* projection, const float* hidden, const float* row, float* gradient,
                             int threads) {
    const Projection& p = *projection;
    const ByHead by_head(p);
    threads = worthwhile(threads, p.rows * p.width * p.hidden * 2);
    const int64_t d = p.width, D = p.hidden, q = p.heads * d;
    return share_out(p.heads, threads, [&](int64_t h) {
        float *left = scratch().take(SUMMED * (d + PANEL)), *right = left + SUMMED * d;
        for (int64_t from = by_head.start[h]; from < by_head.start[h + 1]; from += SUMMED) {
            const int64_t count = std::min(SUMMED, by_head.start[h + 1] - from);
            const int64_t* rows = by_head.row.data() + from;
            for (int64_t k = 0; k < count; ++k) {
                const Vec gate = splat(p.gate ? p.gate[rows[k]] : 1.0f);
                for (int64_t i = 0; i < d; i += LANES) store(left + k * d + i, load(row + rows[k] * d + i) * gate);
            }
            for (int64_t column = 0; column < D; column += PANEL) {
                const int64_t columns = std::min(PANEL, D - column);
                for (int64_t k = 0; k < count; ++k)
                    std::memcpy(right + k * PANEL, hidden + p.token[rows[k]] * D + column, columns * 4);
                if (p.transposed) {
                    product<true>({right, 1, PANEL}, left, d, gradient + column * q + h * d, q, columns, d / LANES,
                                  count);
                    continue;
                }
                float* to = gradient + h * d * D + column;
                product<true>({left, 1, d}, right, PANEL, to, D, d, columns / LANES, count);
                for (int64_t j = columns / LANES * LANES; j < columns; ++j)
                    for (int64_t i = 0; i < d; ++i)
                        for (int64_t k = 0; k < count; ++k) to[i * D + j] += left[k * d + i] * right[k * PANEL + j];
            }
        }
    });
}

}  // namespace strop
