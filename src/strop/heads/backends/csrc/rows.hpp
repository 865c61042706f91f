// Blocks of packed rows, and the tiles of keys that a block meets. See attention.cpp for the whole picture.
#pragma once

#include <algorithm>
#include <climits>
#include <cstring>

#include "product.hpp"

namespace strop {

constexpr int BLOCK = 64;               // rows of a block
constexpr int VECTORS = BLOCK / LANES;  // vectors of a block
constexpr int64_t SHORTEST = 24;        // keys that all rows see, for a part of their own
constexpr float LOG2E = 1.44269504088896341f;
constexpr float LOWEST = -3.0e38f;  // below every score, and finite: the difference of two is 0, not NaN

// The arguments of one attention: rows of d floats, keys and values with strides in floats.
struct Problem {
    const float *query, *key, *value;
    const int64_t* offset;        // rows offset[s] to offset[s + 1] belong to segment s = batch row * groups + group
    const int32_t *first, *last;  // the keys that a row sees; first > last: none
    int64_t segments, groups, keys, width;
    int64_t key_batch, key_group, key_token, value_batch, value_group, value_token;
    float scale;

    // How many keys the rows see together.
    int64_t pairs(int64_t row, int64_t stop) const {
        int64_t sum = 0;
        for (; row < stop; ++row) sum += std::max(last[row] - first[row] + 1, 0);
        return sum;
    }

    const float* keys_of(int64_t segment) const {
        return key + segment / groups * key_batch + segment % groups * key_group;
    }
    const float* values_of(int64_t segment) const {
        return value + segment / groups * value_batch + segment % groups * value_group;
    }
};

// Up to BLOCK rows of one segment. Lanes without a row that sees something are idle: their queries are 0, they never
// narrow a tile, and what they compute is dropped.
struct Block {
    int64_t row;  // the first
    int count, vectors;
    alignas(64) int32_t first[BLOCK], last[BLOCK];
    bool idle[BLOCK];
    int32_t vector_first[VECTORS], vector_last[VECTORS];  // the keys that any lane of a vector sees
    int64_t begin, end;                                   // keys that any row sees
    int64_t full_begin, full_end;                         // keys that every row sees
    int64_t edge_step;                                    // keys of a tile where some do and some do not

    void read(const Problem& p, int64_t row_, int64_t stop) {
        row = row_;
        count = static_cast<int>(std::min<int64_t>(BLOCK, stop - row));
        vectors = (count + LANES - 1) / LANES;
        begin = full_end = INT_MAX;
        end = full_begin = 0;
        int64_t widest = 0;
        for (int v = 0; v < vectors; ++v) {
            int32_t low = INT_MAX, high = -1, inner_high = INT_MAX;
            for (int lane = v * LANES; lane < (v + 1) * LANES; ++lane) {
                idle[lane] = lane >= count || p.first[row + lane] > p.last[row + lane];
                first[lane] = idle[lane] ? 0 : p.first[row + lane];
                last[lane] = idle[lane] ? INT_MAX : p.last[row + lane];
                if (idle[lane]) continue;
                low = std::min(low, first[lane]), high = std::max(high, last[lane]);
                inner_high = std::min(inner_high, last[lane]);
                full_begin = std::max<int64_t>(full_begin, first[lane]);
            }
            vector_first[v] = low, vector_last[v] = high;
            if (high < 0) continue;
            begin = std::min<int64_t>(begin, low), end = std::max<int64_t>(end, high + 1);
            full_end = std::min<int64_t>(full_end, inner_high + 1);
            widest = std::max<int64_t>(widest, high - inner_high);
        }
        if (begin > end) begin = end = 0;
        if (full_end - full_begin < SHORTEST) full_begin = full_end = end;
        edge_step = std::clamp<int64_t>((widest + 11) / 12 * 12, 24, 48);
    }
};

struct Tile {
    int64_t key;
    int keys;
    int low, high;  // vectors low to high - 1 see one of its keys
    bool edge;      // not every lane of those sees every key
};

// Visit the keys of a block from low to high: tiles of up to `largest` keys where all rows see all of them, and smaller
// ones, with the vectors that have nothing to see left out, at the edges.
template <class Visit>
STROP_INLINE void walk(const Block& block, int64_t from, int64_t to, int largest, Visit&& visit) {
    const int64_t cuts[] = {block.begin, block.full_begin, block.full_end, block.end};
    for (int part = 0; part < 3; ++part) {
        const bool edge = part != 1;
        int64_t key = std::max(cuts[part], from);
        const int64_t end = std::min(cuts[part + 1], to);
        if (key >= end) continue;
        const int64_t most = edge ? std::min<int64_t>(block.edge_step, largest) : largest;
        const int64_t tiles = (end - key + most - 1) / most;  // of equal length, and that a multiple of MR if it can be
        const int64_t step = std::min(most, ((end - key + tiles - 1) / tiles + MR - 1) / MR * MR);
        for (; key < end; key += step) {
            Tile tile{key, static_cast<int>(std::min(step, end - key)), 0, block.vectors, edge};
            if (edge) {
                const int64_t last = key + tile.keys - 1;
                auto blind = [&](int v) { return block.vector_first[v] > last || block.vector_last[v] < key; };
                while (tile.low < tile.high && blind(tile.low)) ++tile.low;
                while (tile.low < tile.high && blind(tile.high - 1)) --tile.high;
            }
            if (tile.low < tile.high) visit(tile);
        }
    }
}

// Where lanes v * LANES .. see key j.
STROP_INLINE IntVec sees(const Block& block, int v, int64_t key) {
    const IntVec place = splat(static_cast<int32_t>(key));
    return (load(block.first + v * LANES) <= place) & (load(block.last + v * LANES) >= place);
}

// Rows of a tile one after the other: as they are, or copied where tokens lie further apart (a power of two apart they
// would evict each other from the first cache).
STROP_INLINE const float* together(const float* from, int64_t stride, int64_t rows, int64_t width, float* buffer) {
    if (stride == width) return from;
    for (int64_t i = 0; i < rows; ++i) std::memcpy(buffer + i * width, from + i * stride, width * 4);
    return buffer;
}

}  // namespace strop
