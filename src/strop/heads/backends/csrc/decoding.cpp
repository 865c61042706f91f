// One new token for each batch row, over a cache of keys and values, with the chosen heads only.
//
// Here memory is the limit, not arithmetic: a group's keys and values are read once for all of its chosen heads, and
// those of a group without any are not read at all. A task is a group and 1,024 of its keys. First all of its keys are
// scored, with lanes along d, eight keys and two heads at once; then scores become shares, with lanes along keys; then
// values are summed by the product that everything else uses, with a row for each head. One long stream after the
// other, fetched a little ahead, comes half again as fast from memory as keys and values in turns of 64.
//
// The partial results of a head are merged in order at the end: the answer does not depend on the number of threads.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "product.hpp"
#include "rows.hpp"
#include "work.hpp"

namespace strop {
namespace {

constexpr int PART = 1024;
constexpr int AHEAD = 8;            // keys that are fetched before they are scored
constexpr int SUMMED = 64;          // values that are summed at a time
constexpr int64_t BYTES = 2 << 20;  // worth another thread

struct Cache {
    const float *query, *key, *value;  // query: (b, h, d)
    const uint8_t* chosen;             // (b, h)
    const float* gate;                 // (b, h), or null
    const int32_t *first, *last;       // visible keys of each batch row
    int64_t batch, groups, heads, width;
    int64_t key_batch, key_group, key_token, value_batch, value_group, value_token;
    float scale;
};

struct Task {
    int64_t batch, group, from, to, place;  // place: of its first partial result
    int count;                              // chosen heads
};

// Scores of eight keys for R heads.
template <int R>
STROP_INLINE void score_keys(const float* const* key, const float* query, int64_t d, float* score) {
    Vec sums[R][8] = {};
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j)  // key after key, as they lie in memory: that is what the processor fetches ahead of
        for (int64_t i = 0; i < d; i += LANES) {
            const Vec numbers = load(key[j] + i);
#pragma GCC unroll 2
            for (int h = 0; h < R; ++h) sums[h][j] += numbers * load(query + h * d + i);
        }
#pragma GCC unroll 2
    for (int h = 0; h < R; ++h) _mm256_storeu_ps(score + h * PART, sums_of_eight(sums[h]));
}

STROP_INLINE void fetch(const float* from, int64_t stride, int64_t j, int64_t keys, int64_t d) {
    if (j >= keys) return;
    for (int64_t i = 0; i < d; i += 16)
        _mm_prefetch(reinterpret_cast<const char*>(from + j * stride + i), _MM_HINT_NTA);
}

// Turn a head's scores into shares.
void soften(float* score, int keys, float& peak, float& total) {
    const int padded = (keys + LANES - 1) / LANES * LANES;
    for (int j = keys; j < padded; ++j) score[j] = LOWEST;
    Vec top = splat(LOWEST);
    for (int j = 0; j < padded; j += LANES) top = larger(load(score + j), top);
    peak = LOWEST;
    for (int lane = 0; lane < LANES; ++lane) peak = std::max(peak, top[lane]);
    Vec sums{};
    for (int j = 0; j < padded; j += LANES) {
        const Vec share = power_of_two(load(score + j) - peak);
        store(score + j, share);
        sums += share;
    }
    total = sum(sums);
}

// Write the outputs (not yet divided), peaks and totals of a task's heads.
void attend_part(const Cache& c, const Task& task, float* outs, float* peaks, float* totals) {
    const int64_t d = c.width, members = c.heads / c.groups;
    float *query = scratch().take(members * (d + PART)), *score = query + members * d;
    const int64_t head = task.batch * c.heads + task.group * members;
    for (int64_t m = 0, n = 0; m < members; ++m)
        if (c.chosen[head + m]) {
            const float* from = c.query + (head + m) * d;
            for (int64_t i = 0; i < d; i += LANES) store(query + n * d + i, load(from + i) * (c.scale * LOG2E));
            ++n;
        }
    const float* key = c.key + task.batch * c.key_batch + task.group * c.key_group + task.from * c.key_token;
    const float* value = c.value + task.batch * c.value_batch + task.group * c.value_group + task.from * c.value_token;
    const int keys = static_cast<int>(task.to - task.from);
    for (int j = 0; j < keys; j += 8) {
        const float* row[8];
        for (int k = 0; k < 8; ++k) {
            row[k] = key + std::min(j + k, keys - 1) * c.key_token;
            fetch(key, c.key_token, j + k + AHEAD, keys, d);
        }
        int h = 0;
        for (; h + 2 <= task.count; h += 2) score_keys<2>(row, query + h * d, d, score + h * PART + j);
        if (h < task.count) score_keys<1>(row, query + h * d, d, score + h * PART + j);
    }
    for (int h = 0; h < task.count; ++h) soften(score + h * PART, keys, peaks[h], totals[h]);
    std::memset(outs, 0, task.count * d * 4);
    for (int j = 0; j < keys; j += SUMMED) {
        const int64_t steps = std::min(SUMMED, keys - j);
        product<true>({score + j, PART, 1}, value + j * c.value_token, c.value_token, outs, d, task.count, d / LANES,
                      steps);
    }
}

// Join the partial results of one head, `stride` apart, and write its output.
void merge(const float* outs, const float* peaks, const float* totals, int64_t parts, int64_t stride, int64_t d,
           float gate, float* to) {
    float peak = LOWEST, total = 0;
    for (int64_t i = 0; i < parts; ++i) peak = std::max(peak, peaks[i * stride]);
    for (int64_t i = 0; i < parts; ++i) {
        const float share = std::exp2(peaks[i * stride] - peak);
        total += totals[i * stride] * share;
        for (int64_t k = 0; k < d; k += LANES) store(to + k, load(to + k) + load(outs + i * stride * d + k) * share);
    }
    for (int64_t k = 0; k < d; k += LANES) store(to + k, load(to + k) * (gate / total));
}

}  // namespace

extern "C" int strop_decode(const Cache* cache, float* out, int threads) {
    const Cache& c = *cache;
    const int64_t d = c.width, members = c.heads / c.groups;
    std::memset(out, 0, c.batch * c.heads * d * 4);
    std::vector<Task> tasks;
    int64_t places = 0, bytes = 0;
    for (int64_t b = 0; b < c.batch; ++b)
        for (int64_t g = 0; g < c.groups; ++g) {
            const uint8_t* chosen = c.chosen + b * c.heads + g * members;
            const int count =
                static_cast<int>(std::count_if(chosen, chosen + members, [](uint8_t on) { return on != 0; }));
            if (count == 0) continue;
            for (int64_t from = c.first[b]; from <= c.last[b]; from += PART, places += count) {
                tasks.push_back({b, g, from, std::min<int64_t>(from + PART, c.last[b] + 1), places, count});
                bytes += (tasks.back().to - from) * d * 8;
            }
        }
    std::vector<float> partial(places * (d + 2));
    float *outs = partial.data(), *peaks = outs + places * d, *totals = peaks + places;
    const int failed = share_out(static_cast<int64_t>(tasks.size()), worthwhile(threads, bytes, BYTES), [&](int64_t i) {
        const Task& task = tasks[i];
        attend_part(c, task, outs + task.place * d, peaks + task.place, totals + task.place);
    });
    for (size_t i = 0; i < tasks.size();) {
        const Task& task = tasks[i];
        const int64_t parts = (c.last[task.batch] - task.from) / PART + 1,
                      head = task.batch * c.heads + task.group * members;
        for (int64_t m = 0, n = 0; m < members; ++m)
            if (c.chosen[head + m]) {
                const int64_t place = task.place + n++;
                const float gate = c.gate ? c.gate[head + m] : 1.0f;
                merge(outs + place * d, peaks + place, totals + place, parts, task.count, d, gate,
                      out + (head + m) * d);
            }
        i += parts;
    }
    return failed;
}

}  // namespace strop
