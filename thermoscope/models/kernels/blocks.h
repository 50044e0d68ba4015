// A matrix in blocks of 32 columns, W = scale · code + minimum, times rows quantised in groups of 32.
//
// A panel is sixteen output rows. Its blocks stand one after the other, each as
//   codes     256 bytes for 4 bits, 512 for 8: for every four neighbouring columns sixteen rows' four codes;
//             in 4 bits the low nibbles hold columns 0 to 15, the high ones 16 to 31
//   scales    sixteen, in half precision, or in single where half would round them
//   minima    sixteen likewise; left out where all are scale · -zero, as in Q4_0 and Q8_0
//
// A row's result is summed block by block in the matrix's order, whatever the number of rows in the call: the
// sums within a block are integers, and exact.
#pragma once

#include "simd.h"

namespace thermoscope {

extern "C" struct Matrix {
    const uint8_t* panels;
    const float* bias;  // [out], or null
    int32_t out, in;    // in is a multiple of 32
    int32_t bits;       // 4 or 8
    int32_t wide;       // whether scales and minima are single precision
    int32_t zero;       // the code that stands for 0, or -1 where minima are stored
    int32_t terms;      // of the rows that it is multiplied with: 1, or 2 where 8 bits are too few for them
};

// Rows in int8, in groups of 32. With one term x ≈ scale · code. With two, a second one holds what the first left,
// at 1/254 of its scale, and stands behind it as a row of its own. `sums` is scale · Σ codes of a group.
struct Quantised {
    int8_t* codes;  // [rows · terms, in]
    float* scales;  // [rows · terms, in / 32]
    float* sums;    // [rows · terms, in / 32]
};

// x [in], row `row` of the quantised ones, in the groups [first, last). A group that holds no number, or infinity,
// makes its results no number.
void quantise(const float* x, int in, int terms, Quantised to, int row, int first, int last);

inline int panels_of(const Matrix& w) { return (w.out + LANES - 1) / LANES; }

size_t panel_bytes(const Matrix& w);

// y[row, :] = x Wᵀ + bias for the panels [first, last).
void multiply(const Matrix& w, Quantised x, int rows, float* y, int first, int last);

// Codes [out, in], scales and minima [out, in / 32] in their final precision -> panels. Minima are not read where
// `zero` says them.
void pack(const Matrix& w, const uint8_t* codes, const uint8_t* scales, const uint8_t* minima, uint8_t* panels);

// The inverse: W [out, in] as the numbers that the product multiplies with.
void unpack(const Matrix& w, float* weight);

}  // namespace thermoscope
