// softmax(q Kᵀ · scale) V for one query, section by section of the positions.
//
// A section's result depends on the query and the section alone, and sections are folded together in their order.
// So it does not matter how many rows are in the call, nor whether one thread takes all sections or several share.
#pragma once

#include <algorithm>

#include "simd.h"

namespace thermoscope {

constexpr int SECTION = 32;  // positions, counted from 0

// A partial result is [dim] sums of weight · value, then the greatest score and the sum of the weights; weights
// are exp(score − greatest score).
inline int partial_size(int dim) { return dim + LANES; }

// One query over `count` positions, at most SECTION; `hidden`, if not null, says which of them it must not see. dim =
// 16 D.
template <int D>
void section(const float* q, float scale, const float* keys, const float* values, int count, const uint8_t* hidden,
             float* out) {
    constexpr int DIM = D * LANES;
    Floats query[D], sum[D];
    float scores[SECTION];
    for (int d = 0; d < D; ++d) query[d] = mul(load(q + d * LANES), same(scale));
    const float infinity = std::numeric_limits<float>::infinity();
    Floats best = same(-infinity);
    for (int t = 0; t < count; t += LANES) {
        Floats products[LANES];
#pragma GCC unroll 16
        for (int j = 0; j < LANES; ++j) {
            const float* key = keys + size_t(t + j < count ? t + j : count - 1) * DIM;
            products[j] = mul(query[0], load(key));
#pragma GCC unroll 16
            for (int d = 1; d < D; ++d) products[j] = fma(query[d], load(key + d * LANES), products[j]);
        }
        store(scores + t, totals(products));
        for (int i = count; i < t + LANES; ++i) scores[i] = -infinity;
        if (hidden)
            for (int i = t; i < t + LANES && i < count; ++i)
                if (hidden[i]) scores[i] = -infinity;
        best = max(best, load(scores + t));
    }
    const float most = greatest(best);
    if (most == -infinity) {  // nothing to be seen here
        std::fill_n(out, DIM, 0.0f);
        out[DIM] = most;
        out[DIM + 1] = 0;
        return;
    }
    Floats mass = same(0);
    for (int t = 0; t < count; t += LANES) {
        const Floats weight = exp(add(load(scores + t), same(-most)));
        mass = add(mass, weight);
        store(scores + t, weight);
    }
    for (int d = 0; d < D; ++d) sum[d] = same(0);
    for (int t = 0; t < count; ++t) {
        const Floats weight = same(scores[t]);
#pragma GCC unroll 16
        for (int d = 0; d < D; ++d) sum[d] = fma(weight, load(values + size_t(t) * DIM + d * LANES), sum[d]);
    }
    for (int d = 0; d < D; ++d) store(out + d * LANES, sum[d]);
    out[DIM] = most;
    out[DIM + 1] = total(mass);
}

using Section = void (*)(const float*, float, const float*, const float*, int, const uint8_t*, float*);

// Null for a head whose width has no code here.
inline Section section_for(int dim) {
    switch (dim) {
        case 16: return section<1>;
        case 32: return section<2>;
        case 64: return section<4>;
        case 80: return section<5>;
        case 96: return section<6>;
        case 128: return section<8>;
        case 256: return section<16>;
        default: return nullptr;
    }
}

// Takes the partial result of the next section into that of those before.
inline void fold(float* all, const float* next, int dim) {
    const float best = all[dim] > next[dim] ? all[dim] : next[dim];
    if (best == -std::numeric_limits<float>::infinity()) return;  // neither saw anything
    float factors[LANES];
    store(factors, exp(same(all[dim] - best)));
    const Floats keep = same(factors[0]);
    store(factors, exp(same(next[dim] - best)));
    const Floats take = same(factors[0]);
    for (int i = 0; i < dim; i += LANES) store(all + i, fma(keep, load(all + i), mul(take, load(next + i))));
    float mass[LANES];
    store(mass, fma(keep, same(all[dim + 1]), mul(take, same(next[dim + 1]))));
    all[dim] = best;
    all[dim + 1] = mass[0];
}

// Keys or values of a section in half precision, as floats; meanwhile those that come next are asked for.
inline void widen(const uint16_t* from, int size, float* to, const uint16_t* next) {
    const uint8_t *bytes = reinterpret_cast<const uint8_t*>(from), *ahead = reinterpret_cast<const uint8_t*>(next);
    for (int i = 0; i < size; i += LANES) {
        if (i % (2 * LANES) == 0) prefetch(ahead + 2 * i);
        store(to + i, from_halves(bytes + 2 * i));
    }
}

// Keys and values of one KV head in one slot, the positions of them that are meant, and which of all are hidden from
// the query, or null.
struct Reach {
    const uint16_t *keys, *values;
    int start, end;
    const uint8_t* hidden;
};

// Queries that share their keys and values: sections are cut at multiples of SECTION. `next` is what this thread
// reads afterwards. `out` has a partial result for each query, `stride` apart; `space` holds 2 SECTION · dim + dim
// + LANES.
inline void sections(Section each, const float* queries, int count, float scale, int dim, const Reach& reach,
                     const Reach& next, float* out, int stride, float* space) {
    float *keys = space, *values = keys + SECTION * dim, *partial = values + SECTION * dim;
    for (int from = reach.start, to; from < reach.end; from = to) {
        to = (from / SECTION + 1) * SECTION;
        to = to < reach.end ? to : reach.end;
        const bool last = to == reach.end;
        const size_t here = size_t(from) * dim, ahead = size_t(last ? next.start : to) * dim;
        widen(reach.keys + here, (to - from) * dim, keys, (last ? next.keys : reach.keys) + ahead);
        widen(reach.values + here, (to - from) * dim, values, (last ? next.values : reach.values) + ahead);
        for (int q = 0; q < count; ++q) {
            float *all = out + size_t(q) * stride, *result = from == reach.start ? all : partial;
            const uint8_t* hidden = reach.hidden ? reach.hidden + from : nullptr;
            each(queries + q * dim, scale, keys, values, to - from, hidden, result);
            if (result != all) fold(all, result, dim);
        }
    }
}

}  // namespace thermoscope
