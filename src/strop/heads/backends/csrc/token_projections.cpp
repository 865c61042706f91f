// The projections before and after attention for one new token of each batch row, with its chosen heads only.
//
// Here memory is the limit: what costs is reading the weight. A row of the query projection belongs to one head, and
// the rows of heads that no token chose are not read. Of a row of the output projection a head has a part, and reading
// it in parts pays only where these are few: the processor does not foresee where a stream with gaps goes on.
//
// Shapes: b batch rows, h query heads, d head width, D model width.
#include <algorithm>
#include <cstring>

#include "lanes.hpp"
#include "work.hpp"

namespace strop {
namespace {

constexpr int64_t BLOCKS = 8;       // of eight rows, in a task
constexpr int64_t BYTES = 2 << 20;  // worth another thread

struct TokenProjection {
    const float *token, *weight, *bias;  // (b, D) and (h d, D); or (b, h d) and (D, h d). The bias may be null
    const uint8_t* chosen;               // (b, h)
    int64_t batch, heads, width, hidden;
};

// Where a token's numbers are not zero: parts of equal width, by number.
struct Parts {
    std::vector<int32_t> place;
    int64_t width;
};

// Eight outputs: products of eight rows of a weight with the parts of a token, and the bias.
STROP_INLINE void eight_outputs(const float* weight, int64_t stride, const float* token, const Parts& parts,
                                const float* bias, float* to) {
    Vec sums[8] = {};
    for (const int64_t part : parts.place)
        for (int64_t k = part * parts.width, end = k + parts.width; k < end; k += LANES) {
            const Vec numbers = load(token + k);
#pragma GCC unroll 8
            for (int j = 0; j < 8; ++j) sums[j] += load(weight + j * stride + k) * numbers;
        }
    const __m256 all = sums_of_eight(sums);
    _mm256_storeu_ps(to, bias ? _mm256_add_ps(all, _mm256_loadu_ps(bias)) : all);
}

Parts parts_of(const TokenProjection& p, int64_t b) {
    Parts parts{{}, p.width};
    for (int64_t h = 0; h < p.heads; ++h)
        if (p.chosen[b * p.heads + h]) parts.place.push_back(static_cast<int32_t>(h));
    if (static_cast<int64_t>(parts.place.size()) * 2 < p.heads) return parts;
    return {{0}, p.heads * p.width};
}

}  // namespace

// To (b, h d): the queries of chosen heads, zero for the others.
extern "C" int strop_token_queries(const TokenProjection* projection, float* out, int threads) {
    const TokenProjection& p = *projection;
    const int64_t wide = p.heads * p.width;
    std::vector<int64_t> used;
    for (int64_t h = 0; h < p.heads; ++h)
        for (int64_t b = 0; b < p.batch; ++b)
            if (p.chosen[b * p.heads + h]) {
                used.push_back(h);
                break;
            }
    std::memset(out, 0, p.batch * wide * 4);
    const Parts whole{{0}, p.hidden};
    const int64_t heads = static_cast<int64_t>(used.size());
    return share_out(heads, worthwhile(threads, heads * p.width * p.hidden * 4, BYTES), [&](int64_t task) {
        const int64_t head = used[task];
        for (int64_t place = head * p.width; place < (head + 1) * p.width; place += 8)
            for (int64_t b = 0; b < p.batch; ++b)
                if (p.chosen[b * p.heads + head])
                    eight_outputs(p.weight + place * p.hidden, p.hidden, p.token + b * p.hidden, whole,
                                  p.bias ? p.bias + place : nullptr, out + b * wide + place);
    });
}

// From (b, h d), zero for heads that were not chosen, to (b, D).
extern "C" int strop_token_output(const TokenProjection* projection, float* out, int threads) {
    const TokenProjection& p = *projection;
    const int64_t wide = p.heads * p.width, blocks = p.hidden / 8;
    std::vector<Parts> parts;
    for (int64_t b = 0; b < p.batch; ++b) parts.push_back(parts_of(p, b));
    return share_out((blocks + BLOCKS - 1) / BLOCKS, worthwhile(threads, p.hidden * wide * 4, BYTES), [&](int64_t task) {
        for (int64_t block = task * BLOCKS; block < std::min(blocks, (task + 1) * BLOCKS); ++block)
            for (int64_t b = 0; b < p.batch; ++b)
                eight_outputs(p.weight + block * 8 * wide, wide, p.token + b * wide, parts[b],
                              p.bias ? p.bias + block * 8 : nullptr, out + b * p.hidden + block * 8);
    });
}

}  // namespace strop
