// Which heads each token takes and what they weigh, from the scores of a layer's router: what gates.py does in some
// thirty calls of torch, which for a single token take longer than the query projection.
//
// Shapes: N tokens, h query heads, s shared heads, c choices of a token among e units each, w scores of a token.
#include <algorithm>
#include <cmath>

#include "work.hpp"

namespace strop {
namespace {

constexpr int64_t TOKENS = 256;          // of a task
constexpr int64_t OPERATIONS = 400'000;  // scores that are worth another thread

enum Style : int64_t { RELEASED, PAPER, NONE };

struct Choice {
    const float* score;     // (N, w): of the shared heads, of the units of each choice, of the two stages
    const int32_t* source;  // (h): where a head stands among the shared heads and then the units
    int64_t tokens, heads, shared, shared_scores, choices, units, active, stages, style;
};

struct Chosen {
    uint8_t *mask, *picked;  // (N, h) and (N, c, e)
    float* gate;             // (N, h), or null without gates
    int64_t unfit;           // tokens with a score that is not finite
};

// Softmax of some scores, or of the picked ones, times a factor.
void weigh(const float* score, const uint8_t* picked, int64_t count, float factor, float* to) {
    float top = -INFINITY, total = 0;
    for (int64_t i = 0; i < count; ++i)
        if (!picked || picked[i]) top = std::max(top, score[i]);
    for (int64_t i = 0; i < count; ++i) total += to[i] = !picked || picked[i] ? std::exp(score[i] - top) : 0.0f;
    for (int64_t i = 0; i < count; ++i) to[i] = to[i] / total * factor;
}

// Mark the k largest; of equal ones the first.
void pick(const float* score, int64_t count, int64_t k, uint8_t* picked) {
    std::fill(picked, picked + count, 0);
    for (; k > 0; --k) {
        int64_t best = -1;
        for (int64_t i = 0; i < count; ++i)
            if (!picked[i] && (best < 0 || score[i] > score[best])) best = i;
        picked[best] = 1;
    }
}

// Weigh a token's shared heads and units, in this order.
void weigh_token(const Choice& c, const float* score, const uint8_t* picked, float* weight) {
    const bool released = c.style == RELEASED;
    float stage[2] = {1.0f, 1.0f};
    if (c.stages)
        weigh(score + c.shared_scores + c.choices * c.units, nullptr, 2, released ? 2.0f : 1.0f, stage);
    if (c.shared_scores)
        weigh(score, nullptr, c.shared, (released ? static_cast<float>(c.shared) : 1.0f) * stage[0], weight);
    else
        std::fill(weight, weight + c.shared, stage[0]);
    for (int64_t i = 0; i < c.choices; ++i) {
        const float* own = score + c.shared_scores + i * c.units;
        const uint8_t* on = picked + i * c.units;
        float* to = weight + c.shared + i * c.units;
        // Renormalising the picked probabilities is the softmax over the picked: no small sum to divide by.
        weigh(own, released ? on : nullptr, c.units, (released ? static_cast<float>(c.active) : 1.0f) * stage[1], to);
        for (int64_t j = 0; j < c.units; ++j)
            if (!on[j]) to[j] = 0.0f;
    }
}

}  // namespace

extern "C" int strop_route(const Choice* choice, Chosen* chosen, int threads) {
    const Choice& c = *choice;
    const int64_t units = c.choices * c.units, wide = c.shared_scores + units + c.stages;
    const int64_t tasks = (c.tokens + TOKENS - 1) / TOKENS;
    std::atomic<int64_t> unfit{0};
    const int failed = share_out(tasks, worthwhile(threads, c.tokens * wide, OPERATIONS), [&](int64_t task) {
        float* weight = scratch().take(c.shared + units);
        for (int64_t n = task * TOKENS; n < std::min(c.tokens, (task + 1) * TOKENS); ++n) {
            const float* score = c.score + n * wide;
            if (!std::all_of(score, score + wide, [](float x) { return std::isfinite(x); })) {
                ++unfit;
                continue;
            }
            uint8_t* picked = chosen->picked + n * units;
            for (int64_t i = 0; i < c.choices; ++i)
                pick(score + c.shared_scores + i * c.units, c.units, c.active, picked + i * c.units);
            if (chosen->gate) weigh_token(c, score, picked, weight);
            for (int64_t h = 0; h < c.heads; ++h) {
                const int64_t place = c.source[h];
                chosen->mask[n * c.heads + h] = place < c.shared || picked[place - c.shared];
                if (chosen->gate) chosen->gate[n * c.heads + h] = weight[place];
            }
        }
    });
    chosen->unfit = unfit;
    return failed;
}

}  // namespace strop
