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

// Takes the partial result of the next section into that of those before. Relative to the greater of the two
// greatest scores, one of them keeps its numbers.
inline void fold(float* all, const float* next, int dim) {
    const bool rises = next[dim] > all[dim];
    const float best = rises ? next[dim] : all[dim], least = rises ? all[dim] : next[dim];
    if (best == -std::numeric_limits<float>::infinity()) return;  // neither saw anything
    const Floats shrink = exp(same(least - best)), keep = rises ? shrink : same(1), take = rises ? same(1) : shrink;
    for (int i = 0; i < dim; i += LANES) store(all + i, fma(keep, load(all + i), mul(take, load(next + i))));
    float mass[LANES];
    store(mass, fma(keep, same(all[dim + 1]), mul(take, same(next[dim + 1]))));
    all[dim] = best;
    all[dim + 1] = mass[0];
}

// Keys or values in half precision, as floats.
inline void widen(const uint16_t* from, int size, float* to) {
    const uint8_t* bytes = reinterpret_cast<const uint8_t*>(from);
    for (int i = 0; i < size; i += LANES) store(to + i, from_halves(bytes + 2 * i));
}

// One row's queries that share a KV head: the positions that they see, and which of all are hidden from them, or
// null. `out` gets a partial result for each query.
struct Look {
    const float* queries;
    int start, end;
    const uint8_t* hidden;
    float* out;
};

constexpr int LOOKS = 8;  // rows that share one widening of keys and values

// Rows of one slot at one KV head, whose keys and values these are, from position 0 on.
struct Item {
    const uint16_t *keys, *values;
    int start, end, count;  // what some of the rows see; how many rows
    Look rows[LOOKS];
};

// A section that is read soon, asked for in pieces between computations: all at once would wait for each other.
class Ahead {
  public:
    Ahead(const Item& item, int position, int dim, int pieces)
        : keys_(item.keys + size_t(position) * dim), values_(item.values + size_t(position) * dim),
          lines_(SECTION * dim / LINE), pieces_(pieces) {}

    void ask() {
        for (const int end = 2 * lines_ * ++piece_ / pieces_; line_ < end; ++line_)
            prefetch(line_ < lines_ ? keys_ + size_t(line_) * LINE : values_ + size_t(line_ - lines_) * LINE);
    }

  private:
    static constexpr int LINE = 32;  // numbers
    const uint16_t *keys_, *values_;
    int lines_, pieces_, line_ = 0, piece_ = 0;
};

// Sections are cut at multiples of SECTION. Each row has `queries` of width `dim`, whose partial results stand
// `stride` apart. `next` is what this thread reads afterwards. `space` holds 2 SECTION · dim + dim + LANES.
inline void sections(Section each, int queries, float scale, int dim, const Item& item, const Item& next, int stride,
                     float* space) {
    float *keys = space, *values = keys + SECTION * dim, *partial = values + SECTION * dim;
    for (int from = item.start, to; from < item.end; from = to) {
        to = std::min((from / SECTION + 1) * SECTION, item.end);
        widen(item.keys + size_t(from) * dim, (to - from) * dim, keys);
        widen(item.values + size_t(from) * dim, (to - from) * dim, values);
        const bool last = to == item.end;
        Ahead ahead(last ? next : item, last ? next.start : to, dim, item.count * queries);
        for (const Look* row = item.rows; row < item.rows + item.count; ++row) {
            const int begin = std::max(from, row->start), end = std::min(to, row->end);
            const int offset = (begin - from) * dim;
            for (int q = 0; q < queries; ++q) {
                ahead.ask();
                if (begin >= end) continue;
                float *all = row->out + size_t(q) * stride, *result = begin == row->start ? all : partial;
                each(row->queries + q * dim, scale, keys + offset, values + offset, end - begin,
                     row->hidden ? row->hidden + begin : nullptr, result);
                if (result != all) fold(all, result, dim);
            }
        }
    }
}

}  // namespace thermoscope
