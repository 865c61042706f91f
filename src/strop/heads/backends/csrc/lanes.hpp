// Vectors of floats, 16 wide with AVX-512 and 8 wide with AVX2 and FMA: the rest of the code is written once over
// LANES.
//
// GCC's vector extension (clang has it too) gives +, *, comparisons and ?:. Intrinsics are used only where it has no
// word: the exponential, the 8 x 8 transpose and sums across lanes.
#pragma once

#include <cstdint>
#include <immintrin.h>

namespace strop {

#if defined(__AVX512F__) && defined(__AVX512DQ__)
constexpr int LANES = 16;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int LANES = 8;
#else
#error "this needs a processor with AVX2 and FMA"
#endif

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int32_t IntVec __attribute__((vector_size(LANES * 4)));
typedef float LooseVec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t LooseIntVec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

#define STROP_INLINE inline __attribute__((always_inline))

STROP_INLINE Vec load(const float* from) { return *reinterpret_cast<const LooseVec*>(from); }
STROP_INLINE IntVec load(const int32_t* from) { return *reinterpret_cast<const LooseIntVec*>(from); }
STROP_INLINE void store(float* to, Vec value) { *reinterpret_cast<LooseVec*>(to) = value; }
STROP_INLINE Vec splat(float value) { return value - Vec{}; }  // + would cost an addition: 0 + -0 is 0
STROP_INLINE IntVec splat(int32_t value) { return IntVec{} + value; }
STROP_INLINE Vec larger(Vec one, Vec other) { return one > other ? one : other; }

STROP_INLINE bool any(IntVec flags) {
#if defined(__AVX512F__)
    return _mm512_movepi32_mask((__m512i)flags) != 0;
#else
    return _mm256_movemask_ps((__m256)flags) != 0;
#endif
}

STROP_INLINE float sum(Vec value) {
    float total = 0;
    for (int lane = 0; lane < LANES; ++lane) total += value[lane];
    return total;
}

// The sums of eight vectors.
STROP_INLINE __m256 sums_of_eight(const Vec* v) {
    __m256 half[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
#if defined(__AVX512F__)
        half[i] = _mm256_add_ps(_mm512_castps512_ps256((__m512)v[i]), _mm512_extractf32x8_ps((__m512)v[i], 1));
#else
        half[i] = (__m256)v[i];
#endif
    }
    const __m256 low = _mm256_hadd_ps(_mm256_hadd_ps(half[0], half[1]), _mm256_hadd_ps(half[2], half[3]));
    const __m256 high = _mm256_hadd_ps(_mm256_hadd_ps(half[4], half[5]), _mm256_hadd_ps(half[6], half[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

// 2^x with a relative error under 7e-8: rounded nearly as well as float32 can. The polynomial is the minimax fit of 2^f
// on [0, 1), in relative error (2e-9), that is exactly 1 at 0; the whole part goes into the exponent. x must be below
// 128; far below -126 the result is 0; NaN stays NaN.
STROP_INLINE Vec power_of_two(Vec x) {
#if defined(__AVX512F__)
    const Vec part = (Vec)_mm512_reduce_ps((__m512)x, 0x09);  // x - floor(x), inexact not signalled
#else
    x = x < -126.5f ? splat(-126.5f) : x;  // this way round a NaN stays
    const Vec whole = (Vec)_mm256_floor_ps((__m256)x);
    const Vec part = x - whole;
#endif
    Vec value = splat(0.000216129163164f);
    value = value * part + 0.00124678458087f;
    value = value * part + 0.00967545155436f;
    value = value * part + 0.0554852820933f;
    value = value * part + 0.240229308605f;
    value = value * part + 0.693147063255f;
    value = value * part + 1.0f;
#if defined(__AVX512F__)
    return (Vec)_mm512_scalef_ps((__m512)value, (__m512)x);  // value * 2^floor(x)
#else
    const IntVec biased = (IntVec)_mm256_cvtps_epi32((__m256)whole) + 127;
    return value * (Vec)(IntVec)(biased << 23);  // a biased exponent of 0 is the number 0
#endif
}

// Transpose 8 x 8 floats; strides in floats.
STROP_INLINE void transpose8(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
    __m256 row[8], pair[8], four[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) row[i] = _mm256_loadu_ps(from + i * from_stride);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
        pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        four[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
        four[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xEE);
        four[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
        four[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xEE);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        _mm256_storeu_ps(to + i * to_stride, _mm256_permute2f128_ps(four[i], four[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * to_stride, _mm256_permute2f128_ps(four[i], four[i + 4], 0x31));
    }
}

// Transpose rows x columns floats, both multiples of 8.
STROP_INLINE void transpose(const float* from, int64_t from_stride, float* to, int64_t to_stride, int64_t rows,
                            int64_t columns) {
    for (int64_t i = 0; i < rows; i += 8)
        for (int64_t j = 0; j < columns; j += 8)
            transpose8(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
}

}  // namespace strop
