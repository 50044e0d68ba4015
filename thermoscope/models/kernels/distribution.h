// What rows of logits are like as distributions, and draws from them; in double precision.
#pragma once

#include <cstdint>

namespace thermoscope {

// Of softmax(z): the greatest z, log Σ exp(z), the entropy in nats, and Σ exp((z − greatest) / T) for the row's T.
extern "C" struct Summary {
    double greatest, log_z, entropy, mass;
};

// For each row of logits [rows, vocab]: its summary, and the ids of its `best` greatest logits, greatest first, ties
// by lower id; ids [rows, best], filled up with -1. T = 0 counts as 1. A row with a logit that is no number, or
// infinite, has no number for an entropy.
void summarise(const float* logits, int rows, int vocab, const double* temperatures, int best, Summary* out,
               int32_t* ids, int threads);

// argmax z / T + g with the Gumbel noise of laws/noise.py: `key` is what it makes of seed, choice and position.
// T in (0, ∞]. Logits are float or double; `ids`, rising, say which tokens they are of, null that they are of all.
// Ties go to the lower id.
template <typename Logit>
int64_t draw(const Logit* logits, const int64_t* ids, int count, double greatest, double temperature, uint64_t key,
             int threads);

}  // namespace thermoscope
