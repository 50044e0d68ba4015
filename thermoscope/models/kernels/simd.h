// Sixteen lanes of float32 or int32: AVX-512 where the machine has it, else pieces for AVX2, NEON or any other.
//
// Every operation rounds the same way on every machine: products are fused with their sums only where `fma`
// says so, and the build forbids the compiler to fuse by itself.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
#include <immintrin.h>
#define THERMOSCOPE_AVX512 1
#elif defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace thermoscope {

constexpr int LANES = 16;
constexpr int BLOCK = 32;  // columns that share a scale

// Asks for memory that is read soon, as far as the second cache.
inline void prefetch(const void* address) { __builtin_prefetch(address, 0, 2); }

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
inline Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
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

// Pieces as wide as the machine's registers, in the vectors that GCC and Clang know.
#if defined(__AVX2__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif
constexpr int PIECES = LANES / WIDTH;
typedef float FloatPiece __attribute__((vector_size(4 * WIDTH)));
typedef int32_t IntPiece __attribute__((vector_size(4 * WIDTH)));
typedef int16_t ShortPiece __attribute__((vector_size(4 * WIDTH)));
struct Floats { FloatPiece at[PIECES]; };
struct Ints { IntPiece at[PIECES]; };
using Codes = Ints;  // in each integer the codes of four neighbouring columns

#define THERMOSCOPE_EACH(type, expression)                                   \
    type out;                                                                \
    _Pragma("GCC unroll 4") for (int i = 0; i < PIECES; ++i) out.at[i] = (expression); \
    return out

inline FloatPiece load_piece(const float* from) { FloatPiece a; std::memcpy(&a, from, sizeof a); return a; }
inline FloatPiece same_piece(float a) {
#if defined(__AVX2__)
    return FloatPiece{a, a, a, a, a, a, a, a};
#else
    return FloatPiece{a, a, a, a};
#endif
}
inline FloatPiece fma_piece(FloatPiece a, FloatPiece b, FloatPiece c) {
#if defined(__AVX2__) && defined(__FMA__)
    return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
    return vfmaq_f32(c, a, b);
#else
    for (int i = 0; i < WIDTH; ++i) c[i] = std::fma(a[i], b[i], c[i]);
    return c;
#endif
}
// 2^n for whole n in [-126, 127].
inline FloatPiece power_piece(IntPiece n) { return FloatPiece((n + 127) << 23); }

inline Floats load(const float* from) { THERMOSCOPE_EACH(Floats, load_piece(from + i * WIDTH)); }
inline void store(float* to, Floats a) {
    for (int i = 0; i < PIECES; ++i) std::memcpy(to + i * WIDTH, &a.at[i], sizeof a.at[i]);
}
inline Floats same(float a) { THERMOSCOPE_EACH(Floats, same_piece(a)); }
inline Floats add(Floats a, Floats b) { THERMOSCOPE_EACH(Floats, a.at[i] + b.at[i]); }
inline Floats mul(Floats a, Floats b) { THERMOSCOPE_EACH(Floats, a.at[i] * b.at[i]); }
inline Floats fma(Floats a, Floats b, Floats c) { THERMOSCOPE_EACH(Floats, fma_piece(a.at[i], b.at[i], c.at[i])); }
inline Floats max(Floats a, Floats b) { THERMOSCOPE_EACH(Floats, a.at[i] > b.at[i] ? a.at[i] : b.at[i]); }
inline Floats min(Floats a, Floats b) { THERMOSCOPE_EACH(Floats, a.at[i] < b.at[i] ? a.at[i] : b.at[i]); }
inline Floats div(Floats a, Floats b) { THERMOSCOPE_EACH(Floats, a.at[i] / b.at[i]); }
inline Floats size(Floats a) { THERMOSCOPE_EACH(Floats, FloatPiece(IntPiece(a.at[i]) & 0x7fffffff)); }
inline float greatest(Floats a) {
    float lanes[LANES];
    store(lanes, a);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
    return lanes[0];
}
inline bool reaches(Floats a, float least) {  // whether some lane does
    float lanes[LANES];
    store(lanes, a);
    bool some = false;
    for (float each : lanes) some |= each >= least;
    return some;
}
inline bool finite(Floats a) {
    float lanes[LANES];
    store(lanes, size(a));
    bool all = true;
    for (float each : lanes) all &= each <= std::numeric_limits<float>::max();
    return all;
}
// For a in [-2^22, 2^22]: adding and taking away 1.5 · 2^23 rounds to the nearest integer, ties to the even one.
inline Floats nearest(Floats a) { THERMOSCOPE_EACH(Floats, (a.at[i] + 12582912.0f) - 12582912.0f); }
// For a near 1 and whole powers in [-252, 254]: in two steps, of which only the second one may round.
inline Floats times_2_to(Floats a, Floats power) {
    Floats out;
    for (int i = 0; i < PIECES; ++i) {
        const IntPiece n = __builtin_convertvector(power.at[i], IntPiece), half = n >> 1;
        out.at[i] = a.at[i] * power_piece(half) * power_piece(n - half);
    }
    return out;
}
inline Floats to_floats(Ints a) { THERMOSCOPE_EACH(Floats, __builtin_convertvector(a.at[i], FloatPiece)); }
inline Ints zero_ints() { return Ints{}; }
inline Codes load_codes(const uint8_t* from) {
    Codes a;
    for (int i = 0; i < PIECES; ++i) std::memcpy(&a.at[i], from + i * sizeof a.at[i], sizeof a.at[i]);
    return a;
}
inline Codes low_nibbles(Codes a) { THERMOSCOPE_EACH(Codes, a.at[i] & 0x0f0f0f0f); }
inline Codes high_nibbles(Codes a) { THERMOSCOPE_EACH(Codes, (a.at[i] >> 4) & 0x0f0f0f0f); }

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
#if defined(__AVX2__) && defined(__F16C__)
    THERMOSCOPE_EACH(Floats, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 16 * i))));
#elif defined(__aarch64__)
    THERMOSCOPE_EACH(Floats, vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(from + 8 * i))));
#else
    uint16_t halves[LANES];
    float lanes[LANES];
    std::memcpy(halves, from, sizeof halves);
    for (int i = 0; i < LANES; ++i) lanes[i] = from_half(halves[i]);
    return load(lanes);
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
#if defined(__AVX2__) && defined(__F16C__)
    for (int i = 0; i < PIECES; ++i)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 16 * i), _mm256_cvtps_ph(a.at[i], _MM_FROUND_TO_NEAREST_INT));
#elif defined(__aarch64__)
    for (int i = 0; i < PIECES; ++i) vst1_u8(to + 8 * i, vreinterpret_u8_f16(vcvt_f16_f32(a.at[i])));
#else
    float lanes[LANES];
    uint16_t halves[LANES];
    store(lanes, a);
    for (int i = 0; i < LANES; ++i) halves[i] = to_half(lanes[i]);
    std::memcpy(to, halves, sizeof halves);
#endif
}

inline int store_codes(int8_t* to, Floats low, Floats high) {
    float lanes[BLOCK];
    store(lanes, nearest(low));
    store(lanes + LANES, nearest(high));
    int sum = 0;
    for (int i = 0; i < BLOCK; ++i) {
        to[i] = int8_t(lanes[i]);
        sum += to[i];
    }
    return sum;
}

// a · b, neighbours added up.
inline IntPiece pair_sums(ShortPiece a, ShortPiece b) {
#if defined(__AVX2__)
    return IntPiece(_mm256_madd_epi16(__m256i(a), __m256i(b)));
#elif defined(__SSE2__)
    return IntPiece(_mm_madd_epi16(__m128i(a), __m128i(b)));
#elif defined(__aarch64__)
    return vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b));
#else
    return (IntPiece(a) << 16 >> 16) * (IntPiece(b) << 16 >> 16) + (IntPiece(a) >> 16) * (IntPiece(b) >> 16);
#endif
}

inline Ints dot4(Ints a, Codes codes, const int8_t* x) {
    int32_t four;
    std::memcpy(&four, x, 4);
#if defined(__ARM_FEATURE_DOTPROD)
    // Of signed bytes: Σ codes · x = Σ (codes - 128) · x + 2 Σ 64 · x.
    const int8x16_t other = vreinterpretq_s8_s32(vdupq_n_s32(four));
    const int32x4_t half = vdotq_s32(vdupq_n_s32(0), vdupq_n_s8(64), other);
    for (int i = 0; i < PIECES; ++i) {
        const int8x16_t less = vreinterpretq_s8_u8(veorq_u8(uint8x16_t(codes.at[i]), vdupq_n_u8(128)));
        a.at[i] += vdotq_s32(vaddq_s32(half, half), less, other);
    }
#else
    // In 16 bits, as above.
    const ShortPiece other = ShortPiece(IntPiece{} + four), x_even = other << 8 >> 8, x_odd = other >> 8;
    for (int i = 0; i < PIECES; ++i) {
        const IntPiece even = codes.at[i] & 0x00ff00ff, odd = codes.at[i] >> 8 & 0x00ff00ff;
        a.at[i] += pair_sums(ShortPiece(even), x_even) + pair_sums(ShortPiece(odd), x_odd);
    }
#endif
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
    float lanes[LANES];
    for (int stride = PIECES / 2; stride; stride /= 2)
        for (int i = 0; i < stride; ++i) a.at[i] += a.at[i + stride];
    std::memcpy(lanes, a.at, sizeof a.at[0]);
    for (int half = WIDTH / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    return lanes[0];
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
    float lanes[LANES];
    for (int i = 0; i < LANES; ++i) lanes[i] = total(from[i]);
    return load(lanes);
#endif
}

// exp, to two units in the last place for x in [-87, 88]; 0 and infinity beyond.
// Cephes' polynomial (Moshier 1989, expf) on what is left of x after its power of two.
inline Floats exp(Floats x) {
    x = min(same(150.0f), max(same(-150.0f), x));  // 2^n is 0 or infinity there already; no number stays none
    const Floats n = nearest(mul(x, same(1.44269504088896341f)));
    const Floats r = fma(n, same(2.12194440e-4f), fma(n, same(-0.693359375f), x));
    Floats p = same(1.9875691500e-4f);
    for (float coefficient : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = fma(p, r, same(coefficient));
    return times_2_to(fma(mul(r, r), p, add(r, same(1.0f))), n);
}

}  // namespace thermoscope
