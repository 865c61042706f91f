// Gradients of attention in queries, keys and values, from packed rows; attention.cpp explains blocks, tiles and edges.
//
// For a tile of keys and a block of rows, all with rows along the lanes:
//
//     P   (keys x rows)  = 2^(K Q^T - peak)                 not yet divided by the row's sum
//     dP  (keys x rows)  = V dO^T                           with dO / sum in place of dO: the division costs nothing
//     dS  (keys x rows)  = P * (dP - D)                     D = (dO / sum) . O, one number a row; in two parts
//     dV  (keys x d)    += P  dO                            lanes along d
//     dK  (keys x d)    += dS Q
//     dQ^T (d x rows)   += K^T dS
//
// The order of the loops decides what is summed where. A chunk of 8 blocks (512 rows; 4 where d > 64) is prepared once,
// with Q and dO both ways round, and stays in the second cache. Then key tile after key tile: all blocks of the chunk
// add into one partial dK and dV of the tile, in the first cache, and the partial sums are added to the tensors once.
// So the tensors are read and written once for 512 rows, and rounding errors grow with the number of chunks instead of
// blocks: sums of 64 rows in registers, of 8 blocks in the partial tile, of all chunks in the tensor.
//
// A task is a segment and a range of its keys. It alone writes dK and dV there; dQ is written to one array a range, and
// the caller adds these. The ranges depend on the problem and never on the number of threads, and so does every sum.
#include <cstring>

#include "product.hpp"
#include "rows.hpp"
#include "work.hpp"

namespace strop {
namespace {

constexpr int TILE = 48;
constexpr int CHUNK = 8;

int blocks_of_chunk(int64_t d) { return d <= 64 ? CHUNK : CHUNK / 2; }

struct Gradients {
    const float *out, *softmax, *out_gradient;  // softmax: the peaks of all rows, then their sums
    float *query, *key, *value;                 // query: ranges x rows x d, zeroed; key, value: (b, g, t, d), zeroed
    int64_t ranges, rows;
};

// One block of rows of a chunk, prepared.
struct Prepared {
    Block block;
    float *query, *query_t;  // scaled by scale * log2(e): BLOCK x d and d x BLOCK
    float *out, *out_t;      // dO / sum, likewise
    float* query_gradient_t;
    alignas(64) float peak[BLOCK], centre[BLOCK], inner[BLOCK];  // D = centre + inner
};

struct Buffers {
    float *blocks, *share, *inner, *key, *value, *key_rows;
    Buffers(float* memory, int64_t d) {
        blocks = memory, share = blocks + blocks_of_chunk(d) * 5 * d * BLOCK, inner = share + TILE * BLOCK;
        key = inner + TILE * BLOCK, value = key + TILE * d, key_rows = value + TILE * d;
    }
    static int64_t floats(int64_t d) { return blocks_of_chunk(d) * 5 * d * BLOCK + 2 * TILE * BLOCK + 3 * TILE * d; }
};

void prepare(const Problem& p, const Gradients& g, int64_t row, int64_t stop, float* memory, Prepared& use) {
    const int64_t d = p.width, size = d * BLOCK;
    const Vec factor = splat(p.scale * LOG2E);
    Block& block = use.block;
    block.read(p, row, stop);
    use.query = memory, use.query_t = memory + size, use.out = memory + 2 * size, use.out_t = memory + 3 * size;
    use.query_gradient_t = memory + 4 * size;
    std::memset(use.query_gradient_t, 0, size * 4);
    for (int lane = 0; lane < block.vectors * LANES; ++lane) {
        float *query = use.query + lane * d, *out = use.out + lane * d;
        const int64_t from = (row + lane) * d;
        use.peak[lane] = use.centre[lane] = use.inner[lane] = 0;
        if (block.idle[lane]) {
            std::memset(query, 0, d * 4);
            std::memset(out, 0, d * 4);
            continue;
        }
        const Vec share = splat(1.0f / g.softmax[g.rows + row + lane]);
        Vec inner{};
        for (int64_t i = 0; i < d; i += LANES) {
            const Vec gradient = load(g.out_gradient + from + i) * share;
            store(query + i, load(p.query + from + i) * factor);
            store(out + i, gradient);
            inner += gradient * load(g.out + from + i);
        }
        use.peak[lane] = g.softmax[row + lane];
        use.inner[lane] = sum(inner);
    }
    transpose(use.query, d, use.query_t, BLOCK, block.vectors * LANES, d);
    transpose(use.out, d, use.out_t, BLOCK, block.vectors * LANES, d);
}

// Turn scores and dP of a tile into P and dS.
template <bool EDGE>
STROP_INLINE void shares(const Prepared& rows, const Tile& tile, float* share, float* inner) {
    for (int v = tile.low; v < tile.high; ++v) {
        const Vec peak = load(rows.peak + v * LANES);
        const Vec centre = load(rows.centre + v * LANES), mean = load(rows.inner + v * LANES);
        for (int j = 0; j < tile.keys; ++j) {
            float *p = share + j * BLOCK + v * LANES, *s = inner + j * BLOCK + v * LANES;
            Vec value = power_of_two(load(p) - peak);
            if (EDGE) value = sees(rows.block, v, tile.key + j) ? value : Vec{};
            const Vec slope = value * ((load(s) - centre) - mean);
            store(p, value);
            store(s, slope);
        }
    }
}

// D of rows with few keys, from their shares: the mean of dP. Where one share is nearly 1, dS is a small difference of
// dP and D, and dO . O would round it away. So both are taken from a centre, dP of the largest share: there dP is then
// exactly 0, and D is small. Over many keys no share is that large.
void mean_of_shares(const Problem& p, int64_t segment, Prepared& rows, const Buffers& use) {
    const int64_t d = p.width;
    const float *key = p.keys_of(segment), *value = p.values_of(segment);
    alignas(64) float largest[BLOCK] = {}, shares[BLOCK] = {}, means[BLOCK] = {};
    walk(rows.block, 0, p.keys, TILE, [&](const Tile& tile) {
        const int64_t at = tile.low * LANES, vectors = tile.high - tile.low;
        product<false>({key + tile.key * p.key_token, p.key_token, 1}, rows.query_t + at, BLOCK, use.share + at, BLOCK,
                       tile.keys, vectors, d);
        product<false>({value + tile.key * p.value_token, p.value_token, 1}, rows.out_t + at, BLOCK, use.inner + at,
                       BLOCK, tile.keys, vectors, d);
        for (int v = tile.low; v < tile.high; ++v) {
            const int64_t lane = v * LANES;
            const Vec peak = load(rows.peak + lane);
            Vec centre = load(rows.centre + lane), most = load(largest + lane);
            Vec all = load(shares + lane), mean = load(means + lane);
            for (int j = 0; j < tile.keys; ++j) {
                const Vec raised = power_of_two(load(use.share + j * BLOCK + lane) - peak);
                const Vec share = sees(rows.block, v, tile.key + j) ? raised : Vec{};
                const Vec slope = load(use.inner + j * BLOCK + lane);
                const Vec next = share > most ? slope : centre;
                mean += all * (centre - next) + share * (slope - next);
                centre = next, most = larger(share, most), all += share;
            }
            store(rows.centre + lane, centre), store(largest + lane, most);
            store(shares + lane, all), store(means + lane, mean);
        }
    });
    for (int lane = 0; lane < rows.block.count; ++lane)
        if (!rows.block.idle[lane]) rows.inner[lane] = means[lane] / shares[lane];
}

struct Keys {
    const float *key, *value, *key_rows;  // of a tile; key_rows: one after the other
};

void add_block(const Problem& p, Prepared& rows, const Tile& tile, const Keys& of, const Buffers& use, float* key_sums,
               float* value_sums) {
    const int64_t d = p.width, at = tile.low * LANES, vectors = tile.high - tile.low;
    product<false>({of.key, p.key_token, 1}, rows.query_t + at, BLOCK, use.share + at, BLOCK, tile.keys, vectors, d);
    product<false>({of.value, p.value_token, 1}, rows.out_t + at, BLOCK, use.inner + at, BLOCK, tile.keys, vectors, d);
    tile.edge ? shares<true>(rows, tile, use.share, use.inner) : shares<false>(rows, tile, use.share, use.inner);
    const int64_t steps = vectors * LANES;
    product<true>({use.share + at, BLOCK, 1}, rows.out + at * d, d, value_sums, d, tile.keys, d / LANES, steps);
    product<true>({use.inner + at, BLOCK, 1}, rows.query + at * d, d, key_sums, d, tile.keys, d / LANES, steps);
    product<true>({of.key_rows, 1, d}, use.inner + at, BLOCK, rows.query_gradient_t + at, BLOCK, d, vectors, tile.keys);
}

void add_to(float* to, const float* from, int64_t count, float factor) {
    for (int64_t i = 0; i < count; i += LANES) store(to + i, load(to + i) + load(from + i) * splat(factor));
}

void store_query_gradient(const Problem& p, Prepared& rows, float* to) {
    const int64_t d = p.width;
    const Block& block = rows.block;
    transpose(rows.query_gradient_t, BLOCK, rows.query, d, d, block.vectors * LANES);
    for (int lane = 0; lane < block.count; ++lane)
        for (int64_t i = 0; i < d; i += LANES)
            store(to + (block.row + lane) * d + i,
                  block.idle[lane] ? Vec{} : load(rows.query + lane * d + i) * p.scale);
}

void add_chunk(const Problem& p, const Gradients& g, int64_t segment, int64_t from, int64_t to, Prepared* rows,
               int count, float* query_gradient, const Buffers& use) {
    const int64_t d = p.width;
    const float *key = p.keys_of(segment), *value = p.values_of(segment);
    float *key_gradient = g.key + segment * p.keys * d, *value_gradient = g.value + segment * p.keys * d;
    int64_t begin = to, end = from;
    for (int i = 0; i < count; ++i) {
        begin = std::min(begin, std::max(from, rows[i].block.begin)),
        end = std::max(end, std::min(to, rows[i].block.end));
    }
    for (int64_t start = begin; start < end; start += TILE) {
        const int64_t keys = std::min<int64_t>(TILE, end - start);
        const float* key_rows = together(key + start * p.key_token, p.key_token, keys, d, use.key_rows);
        std::memset(use.key, 0, keys * d * 4);
        std::memset(use.value, 0, keys * d * 4);
        for (int i = 0; i < count; ++i)
            walk(rows[i].block, start, start + keys, TILE, [&](const Tile& tile) {
                const int64_t within = (tile.key - start) * d;
                const Keys of{key + tile.key * p.key_token, value + tile.key * p.value_token, key_rows + within};
                add_block(p, rows[i], tile, of, use, use.key + within, use.value + within);
            });
        add_to(key_gradient + start * d, use.key, keys * d, 1.0f / LOG2E);
        add_to(value_gradient + start * d, use.value, keys * d, 1.0f);
    }
    for (int i = 0; i < count; ++i) store_query_gradient(p, rows[i], query_gradient);
}

// The keys where each range begins, and the end: equally many (row, key) pairs in each.
std::vector<int64_t> split_keys(const Problem& p, int64_t segment, int64_t ranges) {
    std::vector<int64_t> edge(ranges + 1, p.keys);
    edge[0] = 0;
    if (ranges == 1) return edge;
    std::vector<int64_t> change(p.keys + 1, 0);
    const int64_t start = p.offset[segment], stop = p.offset[segment + 1], pairs = p.pairs(start, stop);
    for (int64_t row = start; row < stop; ++row)
        if (p.first[row] <= p.last[row]) ++change[p.first[row]], --change[p.last[row] + 1];
    int64_t seen = 0, sum = 0, range = 1;
    for (int64_t key = 0; key < p.keys && range < ranges; ++key) {
        sum += seen += change[key];
        if (sum * ranges >= pairs * range) edge[range++] = std::min((key / TILE + 1) * TILE, p.keys);
    }
    return edge;
}

}  // namespace

extern "C" int strop_attend_gradient(const Problem* problem, const Gradients* gradients, int threads) {
    const Problem& p = *problem;
    const Gradients& g = *gradients;
    std::vector<std::vector<int64_t>> edges;
    for (int64_t s = 0; s < p.segments; ++s) edges.push_back(split_keys(p, s, g.ranges));
    threads = worthwhile(threads, p.pairs(p.offset[0], p.offset[p.segments]) * p.width * 10);
    return share_out(p.segments * g.ranges, threads, [&](int64_t task) {
        const int64_t segment = task / g.ranges, range = task % g.ranges, d = p.width;
        const int64_t from = edges[segment][range], to = edges[segment][range + 1];
        const Buffers use(scratch().take(Buffers::floats(d)), d);
        Prepared rows[CHUNK];
        const int64_t stop = p.offset[segment + 1], blocks = blocks_of_chunk(d);
        for (int64_t row = p.offset[segment]; row < stop; row += blocks * BLOCK) {
            int count = 0;
            for (int64_t at = row; at < std::min(stop, row + blocks * BLOCK); at += BLOCK) {
                prepare(p, g, at, stop, use.blocks + count * 5 * d * BLOCK, rows[count]);
                const Block& block = rows[count].block;
                if (block.begin >= to || block.end <= from) continue;
                if (block.end - block.begin <= TILE) mean_of_shares(p, segment, rows[count], use);
                ++count;
            }
            if (count) add_chunk(p, g, segment, from, to, rows, count, g.query + range * g.rows * d, use);
        }
    });
}

}  // namespace strop
