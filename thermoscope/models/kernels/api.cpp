// What Python calls, by ctypes: the C++ functions under names that do not change.
#include "attention.h"
#include "distribution.h"
#include "step.h"
#include "team.h"

using namespace thermoscope;

extern "C" {

int64_t thermoscope_panels_size(const Matrix* w) { return int64_t(panels_of(*w) * panel_bytes(*w)); }

void thermoscope_pack(const Matrix* w, const uint8_t* codes, const uint8_t* scales, const uint8_t* minima,
                      uint8_t* panels) {
    pack(*w, codes, scales, minima, panels);
}

void thermoscope_unpack(const Matrix* w, float* weight) { unpack(*w, weight); }

// y [rows, out] = x Wᵀ + bias. `codes` [rows, in], `numbers` [2, rows, in / 32] are space.
void thermoscope_multiply(const Matrix* w, const float* x, int rows, int8_t* codes, float* numbers, float* y,
                          int threads) {
    const int groups = w->in / BLOCK;
    const Quantised to{codes, numbers, numbers + size_t(rows) * groups};
    for (int r = 0; r < rows; ++r) quantise(x + size_t(r) * w->in, w->in, to, r, 0, groups);
    Team& team = Team::only();
    team.run(threads, [&](int me) {
        const int64_t panels = panels_of(*w);
        multiply(*w, to, rows, y, int(panels * me / team.size()), int(panels * (me + 1) / team.size()));
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

int thermoscope_draw(const float* logits, int vocab, double greatest, double temperature, uint64_t key,
                     int threads) {
    return draw(logits, vocab, greatest, temperature, key, threads);
}

}
