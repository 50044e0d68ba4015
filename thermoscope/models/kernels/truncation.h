// What laws/truncation.py needs of every logit, in double precision.
#pragma once

#include <cstdint>

namespace thermoscope {

// Σ w and Σ w x with x = (z − greatest) / T and w = exp(x), for T in (0, ∞); the same for any number of threads.
extern "C" struct Weights {
    double mass, moment;
};

Weights weigh(const double* logits, int count, double greatest, double temperature, int threads);

// The tokens in the order of their distance, ties by lower id, until their weight reaches the goal, or, if that is
// `beyond`, goes past it; all with a weight where it never does. Their ids, rising, into `members`; gives how many.
// The distance is greatest − z where `middle` is 0, else |x − middle|.
int fewest(const double* logits, int count, double greatest, double temperature, double middle, double goal,
           bool beyond, int64_t* members);

}  // namespace thermoscope
