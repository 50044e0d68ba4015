// What Python calls, by ctypes: the C++ functions under names that do not change.
#include "attention.h"
#include "distribution.h"
#include "step.h"
#include "team.h"
#include "truncation.h"

using namespace thermoscope;

extern "C" {

int64_t thermoscope_panels_size(const Matrix* w) { return int64_t(panels_of(*w) * panel_bytes(*w)); }

void thermoscope_pack(const Matrix* w, const uint8_t* codes, const uint8_t* scales, const uint8_t* minima,
                      uint8_t* panels) {
    pack(*w, codes, scales, minima, panels);
}

void thermoscope_unpack(const Matrix* w, float* weight) { unpack(*w, weight); }

// y [rows, out] = x Wᵀ + bias. `codes` [rows · terms, in], `numbers` [2, rows · terms, in / 32] are space.
void thermoscope_multiply(const Matrix* w, const float* x, int rows, int8_t* codes, float* numbers, float* y,
                          int threads) {
    const int groups = w->in / BLOCK;
    const Quantised to{codes, numbers, numbers + size_t(rows) * w->terms * groups};
    for (int r = 0; r < rows; ++r) quantise(x + size_t(r) * w->in, w->in, w->terms, to, r, 0, groups);
    Team::only().share(threads, [&](Piece piece) {
        const int panels = panels_of(*w);
        multiply(*w, to, rows, y, piece.first(panels), piece.last(panels));
    });
}

// Whether there is attention for heads of this width.
int thermoscope_attends(int dim) { return section_for(dim) != nullptr; }

void thermoscope_forward(const Network* network, const Rows* rows, const Cache* cache, float* x, int first, int last,
                         const Taps* taps, int threads, int64_t* spent) {
    forward(*network, *rows, *cache, x, first, last, *taps, threads, spent);
}

void thermoscope_unembed(const Matrix* head, const float* norm, float eps, const float* x, int count, float* logits,
                         int threads) {
    unembed(*head, norm, eps, x, count, logits, threads);
}

void thermoscope_summarise(const float* logits, int rows, int vocab, const double* temperatures, int best, Summary* out,
                           int32_t* ids, int threads) {
    summarise(logits, rows, vocab, temperatures, best, out, ids, threads);
}

int64_t thermoscope_draw(const float* logits, int count, double greatest, double temperature, uint64_t key,
                         int threads) {
    return draw(logits, nullptr, count, greatest, temperature, key, threads);
}

int64_t thermoscope_draw_among(const double* logits, const int64_t* ids, int count, double greatest,
                               double temperature, uint64_t key, int threads) {
    return draw(logits, ids, count, greatest, temperature, key, threads);
}

void thermoscope_weigh(const double* logits, int count, double greatest, double temperature, int threads,
                       Weights* out) {
    *out = weigh(logits, count, greatest, temperature, threads);
}

int thermoscope_fewest(const double* logits, int count, double greatest, double temperature, double middle,
                       double goal, int beyond, int64_t* members) {
    return fewest(logits, count, greatest, temperature, middle, goal, beyond != 0, members);
}

// The sum of all words, and nothing but reading takes time: each piece is gone through
// at four places at once, for a single stream leaves a third of the bandwidth unused.
int64_t thermoscope_read(const int64_t* words, int64_t count, int threads) {
    std::atomic<uint64_t> sum{0};
    Team::only().share(threads, [&](Piece piece) {
        const int64_t first = piece.first(count), last = piece.last(count);
        const int64_t quarter = (last - first) / 4;
        const auto* at = reinterpret_cast<const uint64_t*>(words) + first;  // unsigned sums may go round
        uint64_t a = 0, b = 0, c = 0, d = 0;
        for (int64_t i = 0; i < quarter; ++i) {
            a += at[i];
            b += at[i + quarter];
            c += at[i + 2 * quarter];
            d += at[i + 3 * quarter];
        }
        for (int64_t i = 4 * quarter; i < last - first; ++i) a += at[i];
        sum.fetch_add(a + b + c + d);
    });
    return int64_t(sum.load());
}

}
