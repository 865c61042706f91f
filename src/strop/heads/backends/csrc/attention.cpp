// Attention from packed rows, forward.
//
// A row is one chosen (token, head) pair. The rows of all heads that share a KV head lie together, by position: a
// segment. Every row sees one interval of keys, first..last.
//
// How a tile is computed. A block of 64 rows meets the keys of its segment tile by tile, and everything is kept
// transposed, rows along the lanes of a vector:
//
//     S  (keys x rows)  = K Q^T             Q^T was transposed once for the block, scaled by scale * log2(e); K is read
//     as it is P  (keys x rows)  = 2^(S - peak)      peak: the largest score of each row so far, one lane each O^T (d x
//     rows)   += V^T P             V is read as it is: its numbers are spread over the lanes one by one
//
// So keys and values need no repacking, the running maximum and sum of the softmax are plain vector operations without
// any sum across lanes, and one matrix product (product.hpp) serves all three, and the four of the gradient as well.
// The softmax is the usual running one: where a row's peak rises, its O^T and its sum are scaled down. At the end O^T
// is divided by the sum and transposed back, and peak and sum are kept for the gradient (two numbers a row, since in
// 2^(S - peak) / sum the difference is small and exact, while log2(sum) + peak would round off digits of the sum).
//
// Edges. Rows are sorted by position, and of a sparse choice 64 rows span many positions: with one head in four chosen,
// 256. Between the last key that all rows see and the last that any sees, tiles are 24 to 48 keys long, and only
// vectors with a lane that sees something are computed: the waste is half a vector's span of positions rather than half
// a block's. Only there are keys compared with first and last. Full tiles (96 keys) fit, with Q^T or V, into 32 KiB of
// first cache closely enough; a block's K and V stream from the second cache, 512 bytes for 16 thousand operations.
//
// What is not seen never enters: P is set to 0 by a select, so that scores of unseen keys, whatever they are, are
// dropped, and keys outside the tiles are not read. NaN in a query stays in its row, one lane. No flag of the compiler
// assumes that NaN or infinity do not occur.
#include <cstring>
#include <numeric>

#include "product.hpp"
#include "rows.hpp"
#include "work.hpp"

namespace strop {
namespace {

constexpr int TILE = 96;

struct Buffers {
    float *query, *out, *score, *rows,
        *values;  // Q^T and O^T (d x BLOCK), S (TILE x BLOCK), rows (BLOCK x d), V (TILE x d)
    Buffers(float* memory, int64_t d) {
        query = memory, out = query + d * BLOCK, score = out + d * BLOCK;
        rows = score + TILE * BLOCK, values = rows + d * BLOCK;
    }
    static int64_t floats(int64_t d) { return (3 * d + TILE) * BLOCK + TILE * d; }
};

void load_query(const Problem& p, const Block& block, const Buffers& use) {
    const int64_t d = p.width;
    const Vec factor = splat(p.scale * LOG2E);
    for (int lane = 0; lane < block.vectors * LANES; ++lane) {
        if (block.idle[lane]) {
            std::memset(use.rows + lane * d, 0, d * 4);
            continue;
        }
        const float* from = p.query + (block.row + lane) * d;
        for (int64_t i = 0; i < d; i += LANES) store(use.rows + lane * d + i, load(from + i) * factor);
    }
    transpose(use.rows, d, use.query, BLOCK, block.vectors * LANES, d);
}

// Turn the scores of one vector of rows into shares; update its peak and sum, and scale down what was summed before.
template <bool EDGE>
STROP_INLINE void soften(const Block& block, const Tile& tile, int v, const Buffers& use, int64_t d, float* peak,
                         float* total) {
    float* score = use.score + v * LANES;
    const Vec before = load(peak + v * LANES);
    Vec top[4] = {before, before, before, before};
    for (int j = 0; j < tile.keys; ++j) {
        Vec value = load(score + j * BLOCK);
        if (EDGE) value = sees(block, v, tile.key + j) ? value : splat(LOWEST);
        top[j % 4] = larger(value, top[j % 4]);
    }
    const Vec now = larger(larger(top[0], top[1]), larger(top[2], top[3]));
    Vec sums[2] = {};
    for (int j = 0; j < tile.keys; ++j) {
        Vec share = power_of_two(load(score + j * BLOCK) - now);
        if (EDGE) share = sees(block, v, tile.key + j) ? share : Vec{};
        store(score + j * BLOCK, share);
        sums[j % 2] += share;
    }
    store(peak + v * LANES, now);
    const Vec old = load(total + v * LANES);
    if (!any(now > before)) return store(total + v * LANES, old + sums[0] + sums[1]);
    const Vec shrink = power_of_two(before - now);
    store(total + v * LANES, old * shrink + sums[0] + sums[1]);
    if (!any(old > 0)) return;
    for (int64_t i = 0; i < d; ++i) {
        float* out = use.out + i * BLOCK + v * LANES;
        store(out, load(out) * shrink);
    }
}

void store_out(const Block& block, const Buffers& use, int64_t d, const float* total, float* out) {
    for (int v = 0; v < block.vectors; ++v) {
        const Vec sums = load(total + v * LANES);
        const Vec share = 1.0f / (sums == 0 ? splat(1.0f) : sums);
        for (int64_t i = 0; i < d; ++i) {
            float* at = use.out + i * BLOCK + v * LANES;
            store(at, load(at) * share);
        }
    }
    transpose(use.out, BLOCK, use.rows, d, d, block.vectors * LANES);
    for (int lane = 0; lane < block.count; ++lane) {
        float* to = out + (block.row + lane) * d;
        if (block.idle[lane])
            std::memset(to, 0, d * 4);
        else
            std::memcpy(to, use.rows + lane * d, d * 4);
    }
}

void attend_block(const Problem& p, int64_t segment, int64_t row, float* out, float* peaks, float* totals) {
    const int64_t d = p.width;
    const Buffers use(scratch().take(Buffers::floats(d)), d);
    const float *key = p.keys_of(segment), *value = p.values_of(segment);
    alignas(64) float peak[BLOCK], total[BLOCK] = {};
    std::fill_n(peak, BLOCK, LOWEST);
    Block block;
    block.read(p, row, p.offset[segment + 1]);
    load_query(p, block, use);
    std::memset(use.out, 0, d * BLOCK * 4);
    walk(block, 0, p.keys, TILE, [&](const Tile& tile) {
        const int at = tile.low * LANES, vectors = tile.high - tile.low;
        product<false>({key + tile.key * p.key_token, p.key_token, 1}, use.query + at, BLOCK, use.score + at, BLOCK,
                       tile.keys, vectors, d);
        for (int v = tile.low; v < tile.high; ++v)
            tile.edge ? soften<true>(block, tile, v, use, d, peak, total)
                      : soften<false>(block, tile, v, use, d, peak, total);
        const float* values = together(value + tile.key * p.value_token, p.value_token, tile.keys, d, use.values);
        product<true>({values, 1, d}, use.score + at, BLOCK, use.out + at, BLOCK, d, vectors, tile.keys);
    });
    store_out(block, use, d, total, out);
    for (int lane = 0; lane < block.count; ++lane)
        peaks[row + lane] = peak[lane], totals[row + lane] = block.idle[lane] ? 1.0f : total[lane];
}

}  // namespace

// softmax: the peaks of all rows, then their sums.
extern "C" int strop_attend(const Problem* problem, float* out, float* softmax, int threads) {
    const Problem& p = *problem;
    struct Task {
        int64_t segment, row, pairs;
    };
    std::vector<Task> tasks;
    int64_t pairs = 0;
    for (int64_t s = 0; s < p.segments; ++s)
        for (int64_t row = p.offset[s]; row < p.offset[s + 1]; row += BLOCK) {
            tasks.push_back({s, row, p.pairs(row, std::min<int64_t>(row + BLOCK, p.offset[s + 1]))});
            pairs += tasks.back().pairs;
        }
    threads = worthwhile(threads, pairs * p.width * 4);
    // Longest first, so that the threads end together; alone, a segment's keys are better kept warm.
    if (threads > 1)
        std::stable_sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) { return a.pairs > b.pairs; });
    float* totals = softmax + p.offset[p.segments];
    return share_out(static_cast<int64_t>(tasks.size()), threads,
                     [&](int64_t i) { attend_block(p, tasks[i].segment, tasks[i].row, out, softmax, totals); });
}

}  // namespace strop
