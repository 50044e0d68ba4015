#include "blocks.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace thermoscope {

namespace {

constexpr int MOST = 8;      // rows that share one unpacking of a block
constexpr int AHEAD = 4096;  // bytes from a block to what is asked for meanwhile: farther than memory is slow

constexpr int code_bytes(int bits) { return BLOCK * LANES * bits / 8; }
constexpr int number_bytes(bool wide) { return LANES * (wide ? 4 : 2); }

template <bool WIDE>
inline Floats numbers(const uint8_t* from) {
    if constexpr (WIDE) {
        float out[LANES];
        std::memcpy(out, from, sizeof out);
        return load(out);
    } else {
        return from_halves(from);
    }
}

template <int BITS, bool WIDE, bool ZERO, int ROWS>
void panel(const uint8_t* at, int blocks, float zero, Quantised x, int row, Floats* out) {
    constexpr int CODES = code_bytes(BITS), NUMBERS = number_bytes(WIDE);
    constexpr int SIZE = CODES + (ZERO ? 1 : 2) * NUMBERS;
    const int in = blocks * BLOCK;
    Floats sum[ROWS];
    for (int r = 0; r < ROWS; ++r) sum[r] = same(0);
    for (int b = 0; b < blocks; ++b, at += SIZE) {
        for (int line = 0; line < SIZE; line += 64) prefetch(at + AHEAD + line);
        Codes codes[8];
        if constexpr (BITS == 4) {
            for (int v = 0; v < 4; ++v) {
                const Codes both = load_codes(at + 64 * v);
                codes[v] = low_nibbles(both);
                codes[v + 4] = high_nibbles(both);
            }
        } else {
            for (int v = 0; v < 8; ++v) codes[v] = load_codes(at + 64 * v);
        }
        const Floats scale = numbers<WIDE>(at + CODES);
        Floats minimum;
        if constexpr (ZERO) minimum = mul(scale, same(-zero));
        else minimum = numbers<WIDE>(at + CODES + NUMBERS);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
            const int8_t* group = x.codes + size_t(row + r) * in + b * BLOCK;
            Ints dot = zero_ints();
#pragma GCC unroll 8
            for (int v = 0; v < 8; ++v) dot = dot4(dot, codes[v], group + 4 * v);
            const size_t here = size_t(row + r) * blocks + b;
            sum[r] = fma(minimum, same(x.sums[here]), sum[r]);
            sum[r] = fma(mul(to_floats(dot), scale), same(x.scales[here]), sum[r]);
        }
    }
    for (int r = 0; r < ROWS; ++r) out[r] = sum[r];
}

using Panel = void (*)(const uint8_t*, int, float, Quantised, int, Floats*);

template <int BITS, bool WIDE, bool ZERO, typename = std::make_integer_sequence<int, MOST>>
struct Counts;

// For 1 to MOST rows.
template <int BITS, bool WIDE, bool ZERO, int... ROWS>
struct Counts<BITS, WIDE, ZERO, std::integer_sequence<int, ROWS...>> {
    static constexpr Panel kernels[] = {panel<BITS, WIDE, ZERO, ROWS + 1>...};
};

template <int BITS, bool WIDE>
const Panel* by_zero(const Matrix& w) {
    return w.zero < 0 ? Counts<BITS, WIDE, false>::kernels : Counts<BITS, WIDE, true>::kernels;
}

const Panel* kernels(const Matrix& w) {
    if (w.bits == 4) return w.wide ? by_zero<4, true>(w) : by_zero<4, false>(w);
    return w.wide ? by_zero<8, true>(w) : by_zero<8, false>(w);
}

size_t block_bytes(const Matrix& w) {
    return code_bytes(w.bits) + size_t(w.zero < 0 ? 2 : 1) * number_bytes(w.wide);
}

}  // namespace

size_t panel_bytes(const Matrix& w) { return size_t(w.in / BLOCK) * block_bytes(w); }

void quantise(const float* x, int in, int terms, Quantised to, int row, int first, int last) {
    const int groups = in / BLOCK;
    for (int b = first; b < last; ++b) {
        Floats low = load(x + b * BLOCK), high = load(x + b * BLOCK + LANES);
        const float most = greatest(max(size(low), size(high)));
        // Infinity or no number has no codes; below 1e-35 the scale has no inverse, and the group counts as zero.
        const bool sound = finite(low) && finite(high), some = sound && most > 1e-35f;
        float scale = sound ? (some ? most / 127 : 0) : std::numeric_limits<float>::quiet_NaN();
        const Floats inverse = same(some ? 127 / most : 0);
        low = some ? mul(low, inverse) : same(0);
        high = some ? mul(high, inverse) : same(0);
        for (int t = 0; t < terms; ++t) {
            const size_t term = size_t(row) * terms + t;
            const int sum = store_codes(to.codes + term * in + b * BLOCK, low, high);
            to.scales[term * groups + b] = scale;
            to.sums[term * groups + b] = scale * float(sum);
            low = mul(fma(nearest(low), same(-1), low), same(254));
            high = mul(fma(nearest(high), same(-1), high), same(254));
            scale /= 254;
        }
    }
}

void multiply(const Matrix& w, Quantised x, int rows, float* y, int first, int last) {
    const Panel* kernel = kernels(w);
    const int blocks = w.in / BLOCK, terms = w.terms, groups = (rows * terms + MOST - 1) / MOST;
    for (int p = first; p < last; ++p) {
        const int width = std::min(LANES, w.out - p * LANES);
        float bias[LANES] = {};
        if (w.bias) std::copy_n(w.bias + p * LANES, width, bias);
        // Groups of nearly the same size, a row's terms together.
        for (int row = 0, group = 0; row < rows; ++group) {
            const int next = int(int64_t(rows) * (group + 1) / groups), term = row * terms, count = (next - row) * terms;
            row = next;
            Floats out[MOST];
            kernel[count - 1](w.panels + p * panel_bytes(w), blocks, float(w.zero), x, term, out);
            for (int t = 0; t < count; t += terms) {
                Floats sum = terms == 2 ? add(out[t], out[t + 1]) : out[t];
                if (w.bias) sum = add(sum, load(bias));
                float* to = y + size_t((term + t) / terms) * w.out + p * LANES;
                if (width == LANES) {
                    store(to, sum);
                } else {
                    float lanes[LANES];
                    store(lanes, sum);
                    std::copy_n(lanes, width, to);
                }
            }
        }
    }
}

// Where code i of a block stands for a lane: four neighbours together, sixteen rows beside each other.
inline int place_of(int i, int lane) { return i / 4 * 64 + lane * 4 + i % 4; }

void pack(const Matrix& w, const uint8_t* codes, const uint8_t* scales, const uint8_t* minima, uint8_t* panels) {
    const int blocks = w.in / BLOCK, each = number_bytes(w.wide) / LANES;
    std::memset(panels, 0, panels_of(w) * panel_bytes(w));  // rows that fill up the last panel
    for (int o = 0; o < w.out; ++o) {
        const int lane = o % LANES;
        uint8_t* at = panels + (o / LANES) * panel_bytes(w);
        for (int b = 0; b < blocks; ++b, at += block_bytes(w)) {
            const uint8_t* from = codes + size_t(o) * w.in + b * BLOCK;
            for (int i = 0; i < BLOCK; ++i) {
                const int place = place_of(i, lane);
                if (w.bits == 8) at[place] = from[i];
                else at[place % 256] |= uint8_t(from[i] << (place < 256 ? 0 : 4));
            }
            const size_t number = (size_t(o) * blocks + b) * each;
            uint8_t* to = at + code_bytes(w.bits) + lane * each;
            std::memcpy(to, scales + number, each);
            if (w.zero < 0) std::memcpy(to + number_bytes(w.wide), minima + number, each);
        }
    }
}

void unpack(const Matrix& w, float* weight) {
    const int blocks = w.in / BLOCK;
    for (int p = 0; p < panels_of(w); ++p) {
        const int width = std::min(LANES, w.out - p * LANES);
        for (int b = 0; b < blocks; ++b) {
            const uint8_t *at = w.panels + p * panel_bytes(w) + b * block_bytes(w), *number = at + code_bytes(w.bits);
            float scale[LANES], minimum[LANES];
            store(scale, w.wide ? numbers<true>(number) : numbers<false>(number));
            number += number_bytes(w.wide);
            if (w.zero < 0) store(minimum, w.wide ? numbers<true>(number) : numbers<false>(number));
            else store(minimum, mul(load(scale), same(-float(w.zero))));
            for (int lane = 0; lane < width; ++lane) {
                float* row = weight + size_t(p * LANES + lane) * w.in + b * BLOCK;
                for (int i = 0; i < BLOCK; ++i) {
                    const int place = place_of(i, lane);
                    const int code = w.bits == 8 ? at[place] : at[place % 256] >> (place < 256 ? 0 : 4) & 15;
                    row[i] = scale[lane] * float(code) + minimum[lane];
                }
            }
        }
    }
}

}  // namespace thermoscope
