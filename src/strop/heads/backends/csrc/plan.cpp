// The routing plan from the mask of chosen heads: rows by batch row, KV group, token and head, in two passes over
// bytes.
#include <cstdint>
#include <cstring>

#include "work.hpp"

namespace strop {
namespace {

// Eight flags of one byte each, 0 or 1, are counted by one multiplication.
int64_t count_flags(const uint8_t* flags, int64_t count) {
    int64_t total = 0, i = 0;
    for (; i + 8 <= count; i += 8) {
        uint64_t eight;
        std::memcpy(&eight, flags + i, 8);
        total += (eight * 0x0101010101010101u) >> 56;
    }
    for (; i < count; ++i) total += flags[i];
    return total;
}

}  // namespace

// offset: batch * groups + 1 entries. mask: (b, n, h), one byte each, 0 or 1.
extern "C" int strop_count_rows(const uint8_t* mask, int64_t batch, int64_t tokens, int64_t heads, int64_t groups,
                                int64_t* offset, int) {
    const int64_t members = heads / groups;
    std::memset(offset, 0, (batch * groups + 1) * 8);
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t n = 0; n < tokens; ++n) {
            const uint8_t* flags = mask + (b * tokens + n) * heads;
            for (int64_t g = 0; g < groups; ++g)
                offset[b * groups + g + 1] += count_flags(flags + g * members, members);
        }
    for (int64_t s = 0; s < batch * groups; ++s) offset[s + 1] += offset[s];
    return 0;
}

// first, last: (b, n) of tokens; token_r and so on: of rows.
extern "C" int strop_fill_rows(const uint8_t* mask, int64_t batch, int64_t tokens, int64_t heads, int64_t groups,
                               const int64_t* offset, const int32_t* first, const int32_t* last, int64_t* token_r,
                               int64_t* head_r, int32_t* first_r, int32_t* last_r, int) {
    const int64_t members = heads / groups;
    std::vector<int64_t> next(offset, offset + batch * groups);
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t n = 0; n < tokens; ++n) {
            const int64_t token = b * tokens + n;
            const uint8_t* flags = mask + token * heads;
            for (int64_t h = 0; h < heads; ++h) {
                if (!flags[h]) continue;
                const int64_t row = next[b * groups + h / members]++;
                token_r[row] = token, head_r[row] = h;
                first_r[row] = first[token], last_r[row] = last[token];
            }
        }
    return 0;
}

}  // namespace strop
