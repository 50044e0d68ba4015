// Sixteen lanes of float32 or int32: AVX-512 where the machine has it, else loops that a compiler unrolls.
//
// Every operation rounds the same way on every machine: products are fused with their sums only where `fma`
// says so, and the build forbids the compiler to fuse by itself.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>

#if defined(__AVX512F__) && defined(__AVX512BW__)
#include <immintrin.h>
#define THERMOSCOPE_AVX512 1
#elif defined(__F16C__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

namespace thermoscope {

constexpr int LANES = 16;
constexpr int BLOCK = 32;  // columns that share a scale

inline void prefetch(const void* address) { __builtin_prefetch(address); }

#if THERMOSCOPE_AVX512

using Floats = __m512;
using Ints = __m512i;
using Codes = __m512i;  // 64 bytes: four neighbouring columns for each of sixteen rows

inline Floats load(const float* from) { return _mm512_loadu_ps(from); }
inline void store(float* to, Floats a) { _mm512_storeu_ps(to, a); }
inline Floats same(float a) { return _mm512_set1_ps(a); }
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
inline Floats size(Floats a) { return _mm512_abs_ps(a); }
inline float greatest(Floats a) { return _mm512_reduce_max_ps(a); }
inline bool reaches(Floats a, float least) { return _mm512_cmp_ps_mask(a, same(least), _CMP_GE_OQ) != 0; }
inline bool finite(Floats a) {
    return _mm512_cmp_ps_mask(size(a), same(std::numeric_limits<float>::max()), _CMP_LE_OQ) == 0xffff;
}
inline Floats nearest(Floats a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Floats times_2_to(Floats a, Floats power) { return _mm512_scalef_ps(a, power); }
inline Floats to_floats(Ints a) { return _mm512_cvtepi32_ps(a); }
inline Floats from_halves(const uint8_t* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
inline void to_halves(uint8_t* to, Floats a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
inline Ints zero_ints() { return _mm512_setzero_si512(); }
inline Codes load_codes(const uint8_t* from) { return _mm512_loadu_si512(from); }
inline Codes low_nibbles(Codes a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
inline Codes high_nibbles(Codes a) {
    return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15));
}
// The integers nearest to low and high, ties to the even one, as 32 signed bytes; gives their sum.
inline int store_codes(int8_t* to, Floats low, Floats high) {
    const __m512i a = _mm512_cvtps_epi32(low), b = _mm512_cvtps_epi32(high);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + LANES), _mm512_cvtepi32_epi8(b));
    return _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
}
// a[lane] += Σ_j codes[lane][j] · x[j], exact: codes are unsigned bytes, x signed ones.
inline Ints dot4(Ints a, Codes codes, const int8_t* x) {
    int32_t four;
    std::memcpy(&four, x, 4);
    const __m512i other = _mm512_set1_epi32(four);
#if defined(__AVX512VNNI__)
    return _mm512_dpbusd_epi32(a, codes, other);
#else
    // In 16 bits, since two products of a byte code overflow what maddubs can hold.
    const __m512i even = _mm512_and_si512(codes, _mm512_set1_epi16(255)), odd = _mm512_srli_epi16(codes, 8);
    const __m512i x_even = _mm512_srai_epi16(_mm512_slli_epi16(other, 8), 8), x_odd = _mm512_srai_epi16(other, 8);
    a = _mm512_add_epi32(a, _mm512_madd_epi16(even, x_even));
    return _mm512_add_epi32(a, _mm512_madd_epi16(odd, x_odd));
#endif
}

#else

struct Floats { float at[LANES]; };
struct Ints { int32_t at[LANES]; };
struct Codes { uint8_t at[4 * LANES]; };

#define THERMOSCOPE_EACH(type, expression)             \
    type out;                                          \
    for (int i = 0; i < int(sizeof out.at / sizeof out.at[0]); ++i) out.at[i] = (expression); \
    return out

inline Floats load(const float* from) { Floats a; std::memcpy(&a, from, sizeof a); return a; }
inline void store(float* to, Floats a) { std::memcpy(to, &a, sizeof a); }
inline Floats same(float a) { THERMOSCOPE_EACH(Floats, a); }
inline Floats add(Floats a, Floats b) { THERMOSCOPE_EACH(Floats, a.at[i] + b.at[i]); }
inline Floats mul(Floats a, Floats b) { THERMOSCOPE_EACH(Floats, a.at[i] * b.at[i]); }
inline Floats fma(Floats a, Floats b, Floats c) { THERMOSCOPE_EACH(Floats, std::fma(a.at[i], b.at[i], c.at[i])); }
inline Floats max(Floats a, Floats b) { THERMOSCOPE_EACH(Floats, a.at[i] > b.at[i] ? a.at[i] : b.at[i]); }
inline Floats div(Floats a, Floats b) { THERMOSCOPE_EACH(Floats, a.at[i] / b.at[i]); }
inline Floats size(Floats a) { THERMOSCOPE_EACH(Floats, std::fabs(a.at[i])); }
inline float greatest(Floats a) {
    float most = a.at[0];
    for (int i = 1; i < LANES; ++i) most = most > a.at[i] ? most : a.at[i];
    return most;
}
inline bool reaches(Floats a, float least) {  // whether some lane does
    bool some = false;
    for (float each : a.at) some |= each >= least;
    return some;
}
inline bool finite(Floats a) {
    bool all = true;
    for (float each : a.at) all &= std::fabs(each) <= std::numeric_limits<float>::max();
    return all;
}
inline Floats nearest(Floats a) { THERMOSCOPE_EACH(Floats, std::nearbyint(a.at[i])); }
inline Floats times_2_to(Floats a, Floats power) { THERMOSCOPE_EACH(Floats, std::ldexp(a.at[i], int(power.at[i]))); }
inline Floats to_floats(Ints a) { THERMOSCOPE_EACH(Floats, float(a.at[i])); }
inline Ints zero_ints() { return Ints{}; }
inline Codes load_codes(const uint8_t* from) { Codes a; std::memcpy(&a, from, sizeof a); return a; }
inline Codes low_nibbles(Codes a) { THERMOSCOPE_EACH(Codes, a.at[i] & 15); }
inline Codes high_nibbles(Codes a) { THERMOSCOPE_EACH(Codes, a.at[i] >> 4); }

inline float from_half(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16, rest = half & 0x7fff;
    uint32_t bits;
    float value;
    if (rest >= 0x7c00) {
        bits = sign | 0x7f800000 | (rest & 0x3ff) << 13;  // infinity, or no number
    } else if (rest >= 0x400) {
        bits = sign | ((rest << 13) + (112u << 23));
    } else {  // subnormal: the integer, times 2^-24
        value = float(rest) * 0x1p-24f;
        std::memcpy(&bits, &value, 4);
        bits |= sign;
    }
    std::memcpy(&value, &bits, 4);
    return value;
}

inline Floats from_halves(const uint8_t* from) {
#if defined(__F16C__)
    Floats out;
    for (int i = 0; i < LANES; i += 8)
        _mm256_storeu_ps(out.at + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i))));
    return out;
#else
    uint16_t halves[LANES];
    std::memcpy(halves, from, sizeof halves);
    THERMOSCOPE_EACH(Floats, from_half(halves[i]));
#endif
}

// To the nearest half, ties to the even one; past the greatest, infinity.
inline uint16_t to_half(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const uint32_t sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return uint16_t(sign | 0x7e00);
    if (rest >= 0x477ff000) return uint16_t(sign | 0x7c00);
    if (rest < 0x38800000) {  // subnormal: beside 0.5, a float's last place is 2^-24
        float shifted;
        std::memcpy(&shifted, &rest, 4);
        shifted += 0.5f;
        uint32_t units;
        std::memcpy(&units, &shifted, 4);
        return uint16_t(sign | (units - 0x3f000000));
    }
    return uint16_t(sign | (rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13);
}

inline void to_halves(uint8_t* to, Floats a) {
#if defined(__F16C__)
    for (int i = 0; i < LANES; i += 8)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 2 * i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(a.at + i), _MM_FROUND_TO_NEAREST_INT));
#else
    uint16_t halves[LANES];
    for (int i = 0; i < LANES; ++i) halves[i] = to_half(a.at[i]);
    std::memcpy(to, halves, sizeof halves);
#endif
}

inline int store_codes(int8_t* to, Floats low, Floats high) {
    int sum = 0;
    for (int i = 0; i < BLOCK; ++i) {
        // Adding and taking away 1.5 · 2^23 rounds to the nearest integer, ties to the even one.
        const float value = i < LANES ? low.at[i] : high.at[i - LANES];
        to[i] = int8_t((value + 12582912.0f) - 12582912.0f);
        sum += to[i];
    }
    return sum;
}

inline Ints dot4(Ints a, Codes codes, const int8_t* x) {
    for (int i = 0; i < LANES; ++i)
        for (int j = 0; j < 4; ++j) a.at[i] += int32_t(codes.at[4 * i + j]) * x[j];
    return a;
}

#undef THERMOSCOPE_EACH

#endif

// The sum of the lanes, halves onto each other: an order that is the same everywhere, here and in `totals`.
inline float total(Floats a) {
#if THERMOSCOPE_AVX512
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) a.at[i] += a.at[i + half];
    return a.at[0];
#endif
}

// The lane sums of sixteen vectors, in one.
inline Floats totals(const Floats* from) {
#if THERMOSCOPE_AVX512
    Floats four[4];
    for (int g = 0; g < 4; ++g) {  // vectors g, g + 4, g + 8 and g + 12: a quarter each
        const Floats a = from[g], b = from[g + 4], c = from[g + 8], d = from[g + 12];
        const Floats ab = add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
        const Floats cd = add(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
        four[g] = add(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    }
    const auto pairs = [](Floats a, Floats b) {
        const __m512d x = _mm512_castps_pd(a), y = _mm512_castps_pd(b);
        return add(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    };
    const Floats low = pairs(four[0], four[1]), high = pairs(four[2], four[3]);
    return add(_mm512_shuffle_ps(low, high, 0x88), _mm512_shuffle_ps(low, high, 0xdd));
#else
    Floats out;
    for (int i = 0; i < LANES; ++i) out.at[i] = total(from[i]);
    return out;
#endif
}

// exp, to two units in the last place for x in [-87, 88]; 0 and infinity far beyond.
// Cephes' polynomial (Moshier 1989, expf) on what is left of x after its power of two.
inline Floats exp(Floats x) {
    x = max(same(-150.0f), x);  // keeps 2^n from being computed out of an infinity; no number stays none
    const Floats n = nearest(mul(x, same(1.44269504088896341f)));
    const Floats r = fma(n, same(2.12194440e-4f), fma(n, same(-0.693359375f), x));
    Floats p = same(1.9875691500e-4f);
    for (float coefficient : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = fma(p, r, same(coefficient));
    return times_2_to(fma(mul(r, r), p, add(r, same(1.0f))), n);
}

}  // namespace thermoscope
