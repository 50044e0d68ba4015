// As many lanes of float64 as the machine computes at once: eight with AVX-512, else four.
#pragma once

#include <cmath>
#include <cstdint>

#include "simd.h"

namespace thermoscope {

inline uint64_t mix(uint64_t x) {  // SplitMix64's output function
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

constexpr uint64_t GOLDEN = 0x9e3779b97f4a7c15;

// 1 − u of a token in the noise of laws/noise.py, whose key is that of seed, choice and position.
inline double tail(uint64_t token, uint64_t key) { return (double(mix(token * GOLDEN + key) >> 11) + 0.5) * 0x1p-53; }

#if THERMOSCOPE_AVX512

constexpr int WIDE = 8;
using Doubles = __m512d;
using Tokens = __m512i;
inline Doubles load_doubles(const float* from) { return _mm512_cvtps_pd(_mm256_loadu_ps(from)); }
inline Doubles load_doubles(const double* from) { return _mm512_loadu_pd(from); }
inline void store_doubles(double* to, Doubles a) { _mm512_storeu_pd(to, a); }
inline Doubles spread(double a) { return _mm512_set1_pd(a); }
inline Doubles size(Doubles a) { return _mm512_abs_pd(a); }
inline Doubles at_least(Doubles a, double b) { return _mm512_max_pd(a, spread(b)); }
inline double total(Doubles a) { return _mm512_reduce_add_pd(a); }
inline Tokens load_tokens(const int64_t* from) { return _mm512_loadu_si512(from); }
inline Tokens tokens_from(int64_t first) {
    return _mm512_add_epi64(_mm512_set1_epi64(first), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
}
// A bit for each lane where a is not greater than b, and where either is no number.
inline unsigned not_above(Doubles a, Doubles b) { return _mm512_cmp_pd_mask(a, b, _CMP_NGT_UQ); }
inline unsigned at_most(Doubles a, Doubles b) { return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ); }
// The lanes whose bits are set, side by side; what follows them is overwritten.
inline void store_some(double* to, Doubles a, unsigned lanes) {
    _mm512_storeu_pd(to, _mm512_maskz_compress_pd(__mmask8(lanes), a));
}
inline void store_some(int64_t* to, Tokens a, unsigned lanes) {
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(__mmask8(lanes), a));
}

// exp by its Taylor series, on what is left after a power of two: to the 13th power within an ulp, to the 5th
// within 3e-6 of it.
template <int DEGREE = 13>
inline Doubles exp_doubles(Doubles x) {
    x = _mm512_max_pd(spread(-800), x);  // 0 from there on; no number stays none
    const Doubles n = _mm512_roundscale_pd(_mm512_mul_pd(x, spread(1.4426950408889634)), _MM_FROUND_TO_NEAREST_INT);
    Doubles r = _mm512_fnmadd_pd(n, spread(0x1.62e42fefa38p-1), x);
    r = _mm512_fnmadd_pd(n, spread(0x1.ef35793c7673p-45), r);
    double factorial = 1;
    for (int k = 2; k <= DEGREE; ++k) factorial *= k;
    Doubles sum = spread(1 / factorial);
#pragma GCC unroll 13
    for (int k = DEGREE; k > 0; --k) sum = _mm512_fmadd_pd(sum, r, spread(1 / (factorial /= k)));
    return _mm512_scalef_pd(sum, n);
}

inline Doubles tails(Tokens tokens, uint64_t key) {
    __m512i x = _mm512_add_epi64(_mm512_mullo_epi64(tokens, _mm512_set1_epi64(int64_t(GOLDEN))),
                                 _mm512_set1_epi64(int64_t(key)));
    x = _mm512_mullo_epi64(_mm512_xor_si512(x, _mm512_srli_epi64(x, 30)),
                           _mm512_set1_epi64(int64_t(0xbf58476d1ce4e5b9)));
    x = _mm512_mullo_epi64(_mm512_xor_si512(x, _mm512_srli_epi64(x, 27)),
                           _mm512_set1_epi64(int64_t(0x94d049bb133111eb)));
    x = _mm512_srli_epi64(_mm512_xor_si512(x, _mm512_srli_epi64(x, 31)), 11);
    return _mm512_mul_pd(_mm512_add_pd(_mm512_cvtepu64_pd(x), spread(0.5)), spread(0x1p-53));
}

#else

constexpr int WIDE = 4;  // which the compiler takes apart where registers are narrower
typedef double Doubles __attribute__((vector_size(8 * WIDE)));
typedef int64_t Tokens __attribute__((vector_size(8 * WIDE)));
typedef uint64_t Bits __attribute__((vector_size(8 * WIDE)));
inline Doubles spread(double a) { return Doubles{a, a, a, a}; }
inline Doubles load_doubles(const float* from) { return Doubles{from[0], from[1], from[2], from[3]}; }
inline Doubles load_doubles(const double* from) { Doubles a; std::memcpy(&a, from, sizeof a); return a; }
inline void store_doubles(double* to, Doubles a) { std::memcpy(to, &a, sizeof a); }
inline Doubles size(Doubles a) { return a < spread(0.0) ? -a : a; }
inline Doubles at_least(Doubles a, double b) { return a < spread(b) ? spread(b) : a; }
inline double total(Doubles a) { return (a[0] + a[1]) + (a[2] + a[3]); }
inline Tokens load_tokens(const int64_t* from) { Tokens a; std::memcpy(&a, from, sizeof a); return a; }
inline Tokens tokens_from(int64_t first) { return Tokens{first, first + 1, first + 2, first + 3}; }
inline unsigned bits_of(Tokens lanes) { return (lanes[0] & 1) | (lanes[1] & 2) | (lanes[2] & 4) | (lanes[3] & 8); }
inline unsigned not_above(Doubles a, Doubles b) { return bits_of(~Tokens(a > b)); }
inline unsigned at_most(Doubles a, Doubles b) { return bits_of(a <= b); }
template <typename Number, typename Lanes>
inline void store_some(Number* to, Lanes a, unsigned lanes) {
    for (int i = 0; i < WIDE; ++i)
        if (lanes >> i & 1) *to++ = a[i];
}

template <int DEGREE = 13>
inline Doubles exp_doubles(Doubles x) {
    x = at_least(x, -800);
    const Doubles shift = spread(0x1.8p52), n = (x * spread(1.4426950408889634) + shift) - shift;  // the nearest whole
    const Doubles r = x - n * spread(0x1.62e42fefa38p-1) - n * spread(0x1.ef35793c7673p-45);
    double factorial = 1;
    for (int k = 2; k <= DEGREE; ++k) factorial *= k;
    Doubles sum = spread(1 / factorial);
#pragma GCC unroll 13
    for (int k = DEGREE; k > 0; --k) sum = sum * r + spread(1 / (factorial /= k));
    // Twice half of the power, for the smallest numbers; one of NaN is of no account.
    const Tokens power = __builtin_convertvector(n, Tokens), half = power >> 1;
    return sum * Doubles((half + 1023) << 52) * Doubles((power - half + 1023) << 52);
}

inline Doubles tails(Tokens tokens, uint64_t key) {
    Bits x = Bits(tokens) * GOLDEN + key;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    x = (x ^ x >> 31) >> 11;
    return (__builtin_convertvector(Tokens(x), Doubles) + 0.5) * 0x1p-53;
}

#endif

}  // namespace thermoscope
